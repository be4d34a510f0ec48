"""Adapter formats of other tools, one a file."""
