"""Methods of the transform family."""
