"""The parts of the demo that are Python: make the base, train, compare. `python parts.py train BASE OUT`"""

from __future__ import annotations

import os
import sys

# before transformers is imported: progress bars would drown what the demo says
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import real_models
import torch
from answers import batches, lines
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import adaptr

PROMPT = "The capital of France is"  # not in the data
STEPS, BATCH = 24, 4


def base() -> None:
    """Make the base in the cache folder, if it is not there."""
    real_models.smollm2()


def train(base: str, out: str) -> None:
    """A LoRA that answers like a pirate, through the `train` hook; any loop and optimiser will do."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    size = model.num_parameters()
    fresh = adaptr.create(model, "lora", ["attn.q", "attn.v", "mlp.down"], r=8, alpha=16.0, name="pirate")
    with adaptr.train(model, fresh) as session:
        parameters = list(session.parameters())
        print(f"{sum(p.numel() for p in parameters):,} of {size:,} parameters learn")
        optimiser = torch.optim.AdamW(parameters, lr=2e-3)
        some = batches(AutoTokenizer.from_pretrained(base), lines("capitals.tsv"), BATCH)
        for step, batch in zip(range(STEPS), some, strict=False):
            loss = model(**batch).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            session.after_step()
            if step % 8 == 0 or step == STEPS - 1:
                print(f"step {step:2d}  loss {loss.item():.3f}", flush=True)
        adaptr.save(session.adapted(), out)


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
    {"base": base, "train": train, "compare": compare}[sys.argv[1]](*sys.argv[2:])
