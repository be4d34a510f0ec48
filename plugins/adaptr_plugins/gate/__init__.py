"""Gates: weights for other adapters."""
