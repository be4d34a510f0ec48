"""Gated LoRA as AdapterHub has it: where queries, keys and values are one layer, with a gate for each that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported, phrases
from adaptr_formats.adapterhub.gates import GATE, SLOTS
from adaptr_formats.adapterhub.written import gates
from adaptr_formats.adapterhub.written.layers import Layers, one

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.same import Same

_PARTS = "qkv"
_Tensors = dict[str, tuple[str, "Tensor | Same"]]


def made(adapter: Adapter, layers: Layers, letters: str) -> tuple[dict[str, Any], _Tensors]:
    gates.require_texts(adapter.targets.values())
    targets = adapter.targets
    used = {path: _used(adapter, target) for path, target in targets.items() if layers.is_several(path)}
    changed = {part for found in used.values() for part in found} if used else set(letters)
    letters = "".join(part for part in letters if part in (changed or letters))
    rank = max(target.config["r"] // target.config["gates"] for target in targets.values())
    found: _Tensors = {}
    for path, target in targets.items():
        chosen = [used[path].get(part, 0) for part in letters] if path in used else None
        at = f"{path}.loras.{layers.name}"
        laid = _laid(adapter, target, rank, letters, chosen)
        keys = {"A": "lora_A", "B": "lora_B", **{name: f"{GATE}{slot}" for name, slot in SLOTS.items()}}
        found |= {f"{path}:{name}": (f"{at}.{key}", laid[name]) for name, key in keys.items()}
    first = next(iter(targets.values())).config
    alpha = first["alpha"] / first["gates"]  # which does nothing there
    return {
        "attn_matrices": list(letters),
        "r": rank,
        "alpha": int(alpha) if alpha == int(alpha) else alpha,
        "dropout": one((target.config["dropout"] for target in targets.values()), "dropout rate"),
        "composition_mode": "add",
        "init_weights": "lora",
        "use_dora": False,
        "use_gating": True,
    }, found


def _used(adapter: Adapter, target: Target) -> dict[str, int]:
    """Of queries, keys and values, those that change, with the number of the gate that each has."""
    count = target.config["gates"]
    blocks = adapter.at(target.path)["B"].reshape(3, target.shape[0] // 3, count, -1)
    live = {part: [n for n in range(count) if blocks[i, :, n].any()] for i, part in enumerate(_PARTS)}
    if any(len(numbers) > 1 for numbers in live.values()):
        raise Unsupported(
            f"`{target.path}`: AdapterHub has a gate for queries, keys and values each, and of this several gates are "
            "of the same", hint=phrases.OWN,
        )  # fmt: skip
    return {part: numbers[0] for part, numbers in live.items() if numbers}


def _laid(adapter: Adapter, target: Target, rank: int, letters: str, chosen: list[int] | None) -> dict[str, Tensor]:
    """By adaptr's names what AdapterHub has. chosen: of a layer that is several, the gate of each of `letters`."""
    import torch

    own, count = adapter.at(target.path), target.config["gates"]
    A, B = own["A"].reshape(count, -1, target.shape[1]), own["B"].reshape(target.shape[0], count, -1)
    g, c = own["g"].reshape(count, -1), own["c"]
    if target.config["scale"] == "alpha":
        B = (B.double() * target.config["alpha"] / target.config["r"]).to(B.dtype)
    if chosen is None:
        if count > 1:
            raise Unsupported(f"`{target.path}`: AdapterHub has one gate here, and this {count}", hint=phrases.OWN)
        rows, columns, numbers = [A[0]], [B[:, 0]], [0]
    else:
        of = B.reshape(3, -1, *B.shape[1:])
        numbers = chosen
        rows = [A[n] for n in chosen]
        columns = [of[_PARTS.index(part), :, n] for part, n in zip(letters, chosen, strict=True)]
    pad = torch.nn.functional.pad
    return {
        "A": torch.cat([pad(a, (0, 0, 0, rank - len(a))) for a in rows]),
        "B": torch.cat([pad(b, (0, rank - b.shape[1])) for b in columns]),
        "g": g[numbers].contiguous(),
        "c": c[numbers].contiguous(),
    }
