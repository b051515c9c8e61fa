"""Measurements: quality and speed over workloads, against the splits people use."""
