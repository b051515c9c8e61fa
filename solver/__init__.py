"""The pure library: a question in, a certified answer out. Knows nothing of HTTP, processes or databases."""
