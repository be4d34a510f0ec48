"""loralib's LoRA: `lora_A` (r, in) and `lora_B` (out, r) at a model's own paths, with biases and heads beside them.

W' = W + (alpha / r) B A. Hu et al. 2021, arXiv:2106.09685. The alpha is in the code that trained it alone; so is which
parts of a fused projection (`MergedLinear`) have factors: A (k r, in) and B (k out/n, r) of k parts out of n.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, ConfigMissing, NoAdapterTensors, TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign import NOTHING, Format, Marks, Supplied

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.pieces.module import Layer, Module, Whole

A, B = "lora_A", "lora_B"
_KEY = re.compile(r"(?P<path>.+)\.(?P<slot>lora_[AB])", re.DOTALL)
_OTHER = re.compile(r".*\.lora_\w+(\..*)?", re.DOTALL)
_WAY = (
    "it is the `lora_alpha` of the layers in the code that trained it, which is 16 for RoBERTa and 32 for GPT-2 in "
    "loralib's own examples"
)


class Loralib(Format):
    name = "loralib"
    tool = "loralib"
    called = "a loralib LoRA"
    folder = False
    asks = frozenset({"alpha", "scale", "enable_lora"})
    marks = Marks(
        suffixes=(".safetensors", ".bin", ".pt", ".pth"),
        keys=(r".*\.lora_[AB]",),
        others=(
            r"(.*\.)?(transformer\.h\.\d+\.(attn\.(attn|qkv|proj)|mlp\.(fc(_[12])?|proj))|lm_head)\.lora_[AB]",
            r"base_model\..*",
            r".*\.loras\..*",
        ),
    )

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.checkpoint.skeleton import skeleton
        from adaptr.foreign import placing, saving
        from adaptr.foreign.draft import Piece
        from adaptr.foreign.pieces import assembling
        from adaptr.foreign.pieces.module import Module, Whole
        from adaptr.foreign.stored import contents

        weights = self.weights(path)
        tensors, shapes, metadata = contents(weights)
        model = None if base is None else skeleton(base)
        groups, whole = _grouped(shapes)
        modules = [
            Module(at, groups[at], {slot: shapes[key] for slot, key in groups[at].items()}, tensors, model)
            for at in placing.ordered(groups)
        ]
        layers = [_layer(module, supplied) for module in modules]
        if not any(_fused(module, supplied) for module in modules):
            supplied.refuse("no module of the file is a fused projection", "enable_lora")
        found: list[Layer | Whole] = [*layers, *(Whole(key, Piece(key, shapes[key])) for key in whole)]
        return assembling.adapter(found, tensors, str(weights), saving.told(metadata))


def _grouped(keys: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """({path of a module: {slot: key}}, whole parameters). Raises `TensorUnknown` for tensors of other methods."""
    groups: dict[str, dict[str, str]] = {}
    whole = []
    for key in keys:
        match = _KEY.fullmatch(key)
        if match is not None:
            groups.setdefault(match["path"], {})[match["slot"]] = key
        elif _OTHER.fullmatch(key) or "." not in key:
            raise TensorUnknown(f"`{shown(key)}` is no tensor of a loralib LoRA", hint=phrases.AGAIN)
        else:
            whole.append(key)
    if not groups:
        raise NoAdapterTensors("the file holds no factors", hint=phrases.AGAIN)
    based = next((key for key in whole if key.rpartition(".")[0] in groups and key.endswith(".weight")), None)
    if based is not None:
        raise Unsupported(
            f"`{based}` is the base's, which loralib may have merged the factors into",
            hint="save the factors alone (`loralib.lora_state_dict(model)`)",
        )
    return groups, whole


def _layer(module: Module, supplied: Supplied) -> Layer:
    """The method `lora`; of a fused projection as one pair, whose second factor is made of blocks."""
    from adaptr.foreign import placing
    from adaptr.foreign.peft import merged
    from adaptr.foreign.pieces.module import Layer, complete

    (rank, into), (rows, r) = module.shape(A, (2,)), module.shape(B, (2,))
    values = {"r": r, "alpha": supplied.require_alpha(r, "the adapter", _WAY)}
    if _fused(module, supplied):
        parts = _parts(module, supplied)
        values = merged.values(parts, values)
        laid = {"A": module.shapes[A], "B": (rows, r, 1)}
        pieces = merged.pieces(parts, module.path, {"A": module.keys[A], "B": module.keys[B]}, laid, rank)
    else:
        pieces = {"A": module.piece(A, (r, into)), "B": module.piece(B, (rows, r))}
    kind = kinds.TABLE if module.model is None and placing.is_table(module.path) else kinds.LINEAR
    target = Target(module.path, kind, (pieces["B"].shape[0], into), complete("lora", values))
    return Layer("lora", placing.agreed(module.model, target), pieces)


def _fused(module: Module, supplied: Supplied) -> bool:
    """Whether it is a part or several of a layer: the ranks say so, or for one part alone the base."""
    from adaptr.foreign import placing

    (rank, _), (rows, r) = module.shapes[A], module.shapes[B]
    if rank != r:
        return True
    parts = supplied.enable_lora
    if parts is None or sum(parts) != 1 or len(parts) == 1:
        return False
    known = placing.needed(module.model, module.path, "whether it is one part of a fused projection only the base says")
    return _outputs(known, module.path) == rows * len(parts)


def _outputs(model: nn.Module, path: str) -> int:
    """The outputs of a layer of the base, 0 where there is none."""
    from adaptr import targets as places

    try:
        found = places.describe(path, model.get_submodule(path))
    except AttributeError:
        return 0
    return 0 if found is None else found.shape[0]


def _parts(module: Module, supplied: Supplied) -> tuple[bool, ...]:
    """Which parts have factors. Raises `ConfigMissing` where nobody said it, `ConfigConflict` for another number."""
    (rank, _), (_, r) = module.shapes[A], module.shapes[B]
    count, rest = divmod(rank, r)
    module.require(A, not rest, f"a multiple of {r} rows, as `{B}` has rank {r}")
    if supplied.enable_lora is None:
        raise ConfigMissing(
            f"`{module.path}` is a fused projection, and which {count} of its parts have factors is not in the file",
            hint="say it (`--enable-lora 1,0,1` for queries and values, `adaptr.source` in Python): it is the "
            "`enable_lora` of the layer in the code that trained it",
        )
    if sum(supplied.enable_lora) != count:
        raise ConfigConflict(
            f"`{module.path}`",
            verb="has",
            got=f"factors of {count} parts",
            want=f"{sum(supplied.enable_lora)}, as `enable_lora` says",
            hint="give it as the code that trained it has it",
        )
    return supplied.enable_lora
