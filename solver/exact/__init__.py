"""Exact algorithms that are no mathematical models; a file per algorithm."""
