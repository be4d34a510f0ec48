"""Methods of the delta family."""
