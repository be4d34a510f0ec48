"""Base checkpoints as files: opened without building a model, streamed, written atomically."""

from adaptr.checkpoint.open import Checkpoint, Stored, open_checkpoint

__all__ = ["Checkpoint", "Stored", "open_checkpoint"]
