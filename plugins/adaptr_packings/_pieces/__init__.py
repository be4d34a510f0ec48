"""What several packings are made of."""
