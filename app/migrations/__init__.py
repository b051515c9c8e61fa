"""The history of the database schema; applied when the service starts."""
