"""The table of formats: every format to every other, tried. `make formats` makes it; docs/formats.md shows it."""
