"""Methods of the select family."""
