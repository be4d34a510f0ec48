"""Adapters at work together on a live model: stacks, gates."""
