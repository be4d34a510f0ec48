"""From a model's answers to figures: losses, metrics, and how sure they are."""
