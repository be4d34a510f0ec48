"""Methods of the composite family."""
