"""The built-in adapter methods: one file a method, found by file name."""
