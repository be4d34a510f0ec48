"""Methods of the prompt family."""
