"""Tasks: what a record is an example of, and which model answers it."""
