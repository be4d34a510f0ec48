"""The parts of the demo that are Python: make the base, compare. `python parts.py compare BASE ADAPTER MERGED`"""

from __future__ import annotations

import os
import sys

# before transformers is imported: progress bars would drown what the demo says
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import real_models
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import adaptr

PROMPT = "The capital of France is"  # not in the data


def base() -> None:
    """Make the base in the cache folder, if it is not there."""
    real_models.smollm2()


def compare(base: str, adapter: str, merged: str) -> None:
    """Attached, merged, and after detaching: the logits of one text."""
    ids = AutoTokenizer.from_pretrained(base)(PROMPT, return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        bare = model(**ids).logits
        with adaptr.attach(model, adaptr.load(adapter)):
            attached = model(**ids).logits
        detached = model(**ids).logits
        baked = AutoModelForCausalLM.from_pretrained(merged)(**ids).logits
    largest = float((attached - baked).abs().max())
    print(f"largest logit                          {float(attached.abs().max()):.3f}")
    print(f"base against attached, largest gap     {float((bare - attached).abs().max()):.3f}")
    print(f"attached against merged, largest gap   {largest:.1e}")
    print(f"base against detached                  {'bit for bit' if torch.equal(bare, detached) else 'DIFFERENT'}")
    if largest > 1e-3 or not torch.equal(bare, detached):
        sys.exit("attached and merged model disagree")


if __name__ == "__main__":
    logging.disable_progress_bar()
    {"base": base, "compare": compare}[sys.argv[1]](*sys.argv[2:])
