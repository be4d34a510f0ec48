"""Which of several processes this is, as `torchrun` and `accelerate launch` say it before torch is there."""

from __future__ import annotations

import os


def count() -> int:
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_main() -> bool:
    """Whether this is the one that writes and speaks."""
    return int(os.environ.get("RANK") or 0) == 0
