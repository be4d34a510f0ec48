"""Adapters into a checkpoint, and out of it again bit for bit, with proof."""
