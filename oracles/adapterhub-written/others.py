"""Adapters of the other types of models that AdapterHub's library knows, made at the places that both have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers as t
from adapterhub_bases import BASES
from safetensors.torch import load_file, save_file
from torch import Tensor

import adaptr

TYPES = (
    "albert", "bert-generation", "deberta", "deberta-v2", "bart", "mbart", "plbart", "t5", "mt5", "gptj", "vit", "beit",
    "whisper", "clip",
)  # fmt: skip
#: Queries and values; and with them the feed-forward's two.
FACTORS = {
    "deberta": ["in_proj"], "deberta-v2": ["query_proj", "value_proj"], "albert": ["query", "value"],
    "bert-generation": ["query", "value"], "t5": ["re:.*Attention\\.[qv]"], "mt5": ["re:.*Attention\\.[qv]"],
}  # fmt: skip
_BERT = ["intermediate.dense", "re:.*layer.\\d+.output.dense"]
INNER = {
    "albert": ["ffn", "ffn_output"], "t5": ["wi", "wo"], "mt5": ["wi_1", "wo"], "gptj": ["fc_in", "fc_out"],
    "bert-generation": _BERT, "deberta": _BERT, "deberta-v2": _BERT,
}  # fmt: skip
CROSSED = ("bart", "mbart", "plbart", "t5", "mt5", "whisper")
#: Case to the method and its configuration, where the type has it.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "houlsby": ("houlsby", {"m": 6, "activation": "gelu"}),
    "pfeiffer": ("pfeiffer", {"m": 8}),
    "pfeiffer, the sum": ("pfeiffer", {"m": 8, "residual": True}),
    "parallel": ("parallel", {"m": 8, "s": 2.0}),
    "compacter": ("compacter", {"m": 8, "n": 4}),
    "prefix": ("prefix", {"tokens": 4}),
    "loreft": ("loreft", {"r": 3, "first": 2, "last": 0, "finished": True}),
    "mad-x": ("mad-x", {"m": 6}),
    "invertible": ("invertible", {}),
    "unipelt": ("unipelt", {"m": 5, "r": 3, "tokens": 3, "of": "text"}),
}
#: Case to the types of models in which AdapterHub has it elsewhere, or not at all.
REFUSED = {
    "houlsby": ("albert", "beit"),
    "pfeiffer": ("beit",),
    "pfeiffer, the sum": ("gptj", "beit"),
    "parallel": ("mbart", "t5", "mt5", "gptj", "vit", "beit", "whisper", "clip"),
    "compacter": ("albert", "beit"),
    "prefix": (*CROSSED, "clip"),
    "mad-x": ("albert", *CROSSED, "gptj", "vit", "beit"),
    "invertible": ("albert", *CROSSED, "gptj", "vit", "beit"),
    "unipelt": (*CROSSED, "beit", "clip"),
}


#: Attentions of their own, which adaptr has no prefixes in.
BARE = ("deberta", "deberta-v2", "gptj")


def made(kind: str) -> Any:
    begins, plain, said = BASES[kind]
    torch.manual_seed(0)
    model = getattr(t, begins + plain)._from_config(getattr(t, f"{begins}Config")(**said), attn_implementation="eager")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.15)
    return model.eval()


def given(kind: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    if kind in ("vit", "beit"):
        return {"pixel_values": torch.randn(1, 3, 16, 16, generator=draw)}
    ids = torch.randint(3, 50, (1, 9), generator=draw)
    first = {"input_features": torch.randn(1, 8, 16, generator=draw)} if kind == "whisper" else {"input_ids": ids}
    return {**first, **({"decoder_input_ids": ids[:, :6].clone()} if kind in CROSSED else {})}


def adapters(kind: str, model: Any) -> Iterator[tuple[str, adaptr.Adapter]]:
    few = FACTORS.get(kind, ["q_proj", "v_proj"])
    inner = INNER.get(kind, ["fc1", "fc2"])
    yield "lora", adaptr.create(model, "lora", few, r=3, alpha=5.0)
    yield "lora, everything", adaptr.create(model, "lora", [*few, *inner], r=4, alpha=8.0)
    yield "ia3", adaptr.create(model, "ia3", few, side="out")
    for case, (method, config) in CASES.items():
        if kind not in REFUSED.get(case, ()) and not (kind in BARE and case in ("prefix", "unipelt")):
            yield case, adaptr.create(model, method, **config)


def refused(kind: str, model: Any) -> Iterator[adaptr.Adapter]:
    """What AdapterHub has no place for, as far as it can be made."""
    for case, kinds in REFUSED.items():
        method, config = CASES[case]
        try:
            if kind in kinds:
                yield adaptr.create(model, method, **config)
        except adaptr.errors.AdaptrError:
            continue


def rename(folder: Path) -> None:
    """As older transformers calls a text model's weights."""
    file = folder / "model.safetensors"
    save_file({f"text_model.{name}": value for name, value in load_file(file).items()}, file, {"format": "pt"})
