"""What works with which method: each cell tried. `make methods` makes the table; docs/compatibility.md shows it."""
