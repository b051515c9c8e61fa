"""The service and the command line around :mod:`solver`; nothing about placement is decided here."""
