"""PEFT's files: what is in a folder, from there to an adapter and back. The format itself is `adaptr_formats.peft`."""
