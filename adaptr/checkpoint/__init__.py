"""Base checkpoints as files: opened without building a model, streamed, written atomically."""

from adaptr.checkpoint.open import Checkpoint, open_checkpoint
from adaptr.checkpoint.stored import Stored

__all__ = ["Checkpoint", "Stored", "open_checkpoint"]
