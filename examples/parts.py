"""The parts of the demo that are Python: make the base, train, compare. `python parts.py train BASE OUT`"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# before transformers is imported: progress bars would drown what the demo says
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import real_models
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import adaptr

DATA = Path(__file__).with_name("capitals.tsv")
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
        for step, batch in zip(range(STEPS), batches(AutoTokenizer.from_pretrained(base)), strict=False):
            loss = model(**batch).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            session.after_step()
            if step % 8 == 0 or step == STEPS - 1:
                print(f"step {step:2d}  loss {loss.item():.3f}", flush=True)
        adaptr.save(session.adapted(), out)


def batches(tokenizer: Any) -> Iterator[dict[str, Any]]:
    """Batches for ever; only the answers count in the loss."""
    made = []
    for line in DATA.read_text().splitlines():
        question, answer = line.split("\t")
        asked, said = tokenizer(question).input_ids, [*tokenizer(answer).input_ids, tokenizer.eos_token_id]
        made.append((asked + said, [-100] * len(asked) + said))
    longest = max(len(ids) for ids, _ in made)
    ids = torch.tensor([i + [tokenizer.eos_token_id] * (longest - len(i)) for i, _ in made])
    labels = torch.tensor([label + [-100] * (longest - len(label)) for _, label in made])
    while True:
        for some in torch.randperm(len(made)).split(BATCH):
            yield {"input_ids": ids[some], "labels": labels[some]}


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
