"""From two checkpoints to the LoRA between them."""
