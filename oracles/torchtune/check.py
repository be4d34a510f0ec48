"""What torchtune computes with adaptr's merged weights, against its own with the factors. check.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

import small_llama

import models

if __name__ == "__main__":
    small_llama.held(Path(sys.argv[1]), lambda weights: models.logits(models.of(weights)))
