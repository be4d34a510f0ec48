"""pyreft's models of the small Llama, and what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyreft
import small_llama as small
import torch
from transformers import AutoModelForCausalLM


def base(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()


def intervened(model: Any, kind: str, rank: int, layers: list[int], **given: Any) -> Any:
    """One of pyreft's models with an intervention at the output of each of `layers`, in fp32."""
    made = getattr(pyreft, f"{kind}Intervention")
    sizes = {"embed_dim": small.WIDTH, "low_rank_dimension": rank, "dtype": torch.float32, **given}
    places = [
        {"layer": layer, "component": "block_output", "low_rank_dimension": rank, "intervention": made(**sizes)}
        for layer in layers
    ]
    return pyreft.get_reft_model(model, pyreft.ReftConfig(representations=places), set_device=False)


def shaken(model: Any, seed: int) -> None:
    """Noise on what is trained, so that nothing is where it starts; of a basis that is what lies below its diagonal."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(model.interventions.named_parameters()):
            noise = 0.2 * torch.randn(value.shape, generator=draw)
            value.add_(noise.tril(-1) if name.endswith(".original") else noise)


def logits(model: Any, positions: str = "") -> torch.Tensor:
    """Of the last token on, with interventions at `positions`, as pyreft's own data have them."""
    ids = {"input_ids": torch.tensor(small.IDS)}
    with torch.no_grad():
        if not positions:
            return model(**ids).logits[0]
        count = len(model.interventions)
        shared = len({key.partition("#")[0] for key in model.interventions}) == count
        length = len(small.IDS[0])
        places = pyreft.get_intervention_locations(
            last_position=length, positions=positions, num_interventions=count, share_weights=shared
        )
        return model(ids, unit_locations={"sources->base": (None, [[one] for one in places])})[1].logits[0]
