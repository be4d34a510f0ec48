"""Networks beside the model."""
