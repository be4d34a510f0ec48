"""One adapter of several: recipes, strategies, and the search for weights."""
