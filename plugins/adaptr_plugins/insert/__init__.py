"""Methods of the insert family."""
