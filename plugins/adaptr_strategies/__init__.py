"""Strategies: one a file, found by file name."""
