"""What works on which model: a method of each family tried on a tiny model of each kind; docs/models.md shows it."""
