"""Tasks, a file each; one of your own package is found by the entry point `adaptr.tasks`."""
