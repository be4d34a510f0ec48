"""Attach, forward and decode on SmolLM2's shape (30 layers, 210 linear layers, fp32): adaptr, PEFT and the bare model.

`python benchmarks/live.py [ROUNDS]`, one thread.
"""

from __future__ import annotations

import sys
from typing import Any

import measure
import synthetic
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, DynamicCache

import adaptr

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def base(place: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()


def models(place: Any, folder: Any) -> dict[str, Any]:
    """Each with the same adapter where that can be."""
    bare = base(place)
    found = {"bare": bare}
    ours = base(place)
    adaptr.attach(ours, adaptr.load(folder))
    found["adaptr LoRA r16"] = ours
    found["PEFT LoRA r16"] = PeftModel.from_pretrained(base(place), folder).eval()
    dora = adaptr.create(bare, "dora", r=16, alpha=32)
    generator = torch.Generator().manual_seed(3)
    noisy = {k: v + 0.01 * torch.randn(v.shape, generator=generator) for k, v in dora.tensors.items()}
    ours = base(place)
    adaptr.attach(ours, dora.replace(tensors=noisy))
    found["adaptr DoRA r16"] = ours
    theirs = get_peft_model(base(place), LoraConfig(r=16, lora_alpha=32, target_modules=LINEARS, use_dora=True))
    found["PEFT DoRA r16"] = theirs.eval()
    return found


def decoder(model: Any, ids: torch.Tensor, one: torch.Tensor) -> Any:
    """A function that decodes one token behind a cache of the prompt's length."""
    cache = DynamicCache(config=model.config)
    model(ids, past_key_values=cache, use_cache=True)

    def step() -> None:
        model(one, past_key_values=cache, use_cache=True)
        cache.crop(-1)

    return step


def attaching(place: Any, folder: Any, rounds: int) -> str:
    """From a file on disk to an attached adapter, and off again."""
    file = folder.with_suffix(".safetensors")
    if not file.exists():
        adaptr.convert(folder, file)
    ours, theirs = base(place), base(place)

    def attach() -> None:
        adaptr.attach(ours, adaptr.load(file)).detach()

    def load_peft() -> None:
        PeftModel.from_pretrained(theirs, folder).unload()

    found = measure.interleave(
        {"adaptr: load, attach, detach": attach, "PEFT: from_pretrained, unload": load_peft}, rounds
    )
    return measure.table("Attach a LoRA r=16 to 210 linear layers", found, "PEFT: from_pretrained, unload")


def main(rounds: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    place = synthetic.llama(measure.workplace() / "smollm2", synthetic.SMOLLM2, shards=1)
    folder = synthetic.lora(measure.workplace() / "lora-small", synthetic.SMOLLM2)
    print(attaching(place, folder, rounds))
    with torch.inference_mode():
        every = models(place, folder)
        ids, one = torch.randint(0, 49152, (1, 128)), torch.randint(0, 49152, (1, 1))
        gap = (every["adaptr LoRA r16"](ids).logits - every["PEFT LoRA r16"](ids).logits).abs().max()
        print(f"\nlargest difference of the logits, adaptr and PEFT LoRA: {float(gap):.1e}")
        prefill = {name: (lambda m=m: m(ids)) for name, m in every.items()}
        print(measure.table("Prefill of 128 tokens, one thread", measure.interleave(prefill, rounds), "bare"))
        steps = {name: decoder(m, ids, one) for name, m in every.items()}
        print(measure.table("Decode of one token, one thread", measure.interleave(steps, 4 * rounds, 3), "bare"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
