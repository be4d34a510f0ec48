"""How the golden files of format 1 were made: one a method, tiny, from a seeded generator. Kept to be read.

The files are frozen: they stay as released adaptr wrote them and stay readable for ever. A file of a new method may be
added (`python tests/golden/format-1/make.py NAME`); one that exists is never written again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from adaptr import Adapter, Base, Target, plugins
from adaptr.format import digest, write

HERE = Path(__file__).resolve().parent
DIGESTS = HERE / "digests.json"

Places = dict[str, tuple[str, tuple[int, ...]]]

LINEAR: Places = {"h.0.q": ("linear", (4, 3)), "h.1.q": ("linear_t", (4, 3))}
BLOCK: Places = {"h.0.mlp": ("module", (6,))}
ATTENTION: Places = {"h.0.attn": ("attention", (2, 3))}
MODEL: Places = {"": ("model", (6,))}

RECIPES: dict[str, tuple[dict[str, object], Places]] = {
    "lora": (
        {"r": 2, "alpha": 4.0, "bias": True},
        {**LINEAR, "emb": ("embedding", (4, 5)), "up": ("experts", (2, 4, 3))},
    ),
    "dora": ({"r": 2, "rslora": True}, {**LINEAR, "conv": ("conv2d", (4, 3, 1, 2))}),
    "loha": ({"r": 2}, {**LINEAR, "conv": ("conv2d", (4, 3, 1, 2))}),
    "lokr": ({"r": 1, "a": 2, "b": 2, "c": 1, "d": 3, "w1_full": False}, LINEAR),
    "adalora": ({"r": 2, "begun": 3, "alpha": 4.0, "target_r": 2}, LINEAR),
    "vera": ({"r": 2, "stored": True, "in_max": 3, "out_max": 4, "width": 3}, LINEAR),
    "oft": ({"b": 3, "terms": 5}, LINEAR),
    "shira": ({"r": 1, "n": 3, "rows": 4, "cols": 3}, LINEAR),
    "full": ({"bias": True}, {**LINEAR, "up": ("experts", (2, 4, 3))}),
    "ia3": ({"side": "in"}, LINEAR),
    "bitfit": ({}, {**LINEAR, "norm": ("norm", (4,))}),
    "houlsby": ({"m": 2, "activation": "relu"}, BLOCK),
    "parallel": ({"m": 2, "s": 0.5, "reads": "h.0.mlp.fc"}, BLOCK),
    "prefix": ({"tokens": 2, "position_offset": "shift"}, ATTENTION),
    "prompt": ({"tokens": 2, "rows": 4}, MODEL),
}

QUANTISED = ("lora-int8", "lora-bf16", "lora-fp8", "lora-nf4", "lora-int4-g32")


def single(name: str, generator: torch.Generator) -> Adapter:
    """An adapter of the method `name`, every field of the manifest set."""
    method = plugins.method(name)
    given, places = RECIPES[name]
    config = vars(method.config(given))
    targets = {path: Target(path, kind, shape, config) for path, (kind, shape) in places.items()}
    tensors = {
        ("" if method.params[param].shared else path) + f":{param}": torch.randn(shape, generator=generator)
        for path, target in targets.items()
        for param, shape in method.shapes(target).items()
    }
    if name == "shira":
        tensors |= {f"{path}:i": torch.tensor([1, 6, 11]) for path in targets}
    return Adapter(
        name, config, targets, tensors, method.version,
        base=Base("acme/tiny", "0123abc", "TinyModel", "sha256:" + "0" * 64, "sha256:" + "1" * 64, (("a.w", "b.w"),)),
        name=f"golden-{name}", release="1.0", summary="A golden file: ünïcödé.", license="Apache-2.0", tags=("golden",),
        lineage={"operation": "create", "arguments": {"seed": 0}, "parents": []},
        training={"learning_rate": 1e-7, "steps": 100}, foreign={"peft": {"inference_mode": True}},
    )  # fmt: skip


def make(name: str) -> Adapter:
    generator = torch.Generator().manual_seed(0)
    if name == "mam":
        empty = single("ia3", generator).replace(
            method="mam", config={"tokens": 2, "m": 2, "s": 0.5}, targets={}, tensors={}
        )
        return empty.with_parts({part: single(part, generator) for part in ("prefix", "parallel")}).replace(
            name="golden-mam"
        )
    if name in QUANTISED:
        return plugins.method("lora").quantize(single("lora", generator), name.removeprefix("lora-"))
    if name == "lora-replaced":
        adapter = single("lora", generator)
        return adapter.replace(tensors={**adapter.tensors, "head.weight:=": torch.ones(2, 3, dtype=torch.bfloat16)})
    return single(name, generator)


def main(names: list[str]) -> None:
    known = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    for name in names:
        path = HERE / f"{name}.safetensors"
        if path.exists():
            continue
        adapter = make(name)
        write(adapter, path)
        known[name] = {"file": digest.of_file(path), "weights": digest.of_adapter(adapter)}
    DIGESTS.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:] or [*RECIPES, *QUANTISED, "mam", "lora-replaced"])
