"""A composition whose weights, densities, ranks or strategy are found by measuring it."""
