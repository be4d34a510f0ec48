"""Deltas as operators: shapes, products and norms without forming the dense matrix."""
