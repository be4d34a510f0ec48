"""Artifacts as people handle them: pulled, pushed, signed, searched, followed by digest."""
