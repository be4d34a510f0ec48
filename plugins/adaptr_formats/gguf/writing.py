"""From an adapter to llama.cpp's LoRA: one alpha for all layers, what that can't say folded into their `lora_b`.

llama.cpp computes alpha / r with each layer's own r, so a layer of scale s keeps its numbers where s·r is the file's
alpha, which is that of most layers; else its `lora_b` is B·(s·r / alpha), computed in fp64 and kept in fp32.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import kinds
from adaptr.errors import ConfigMissing, Unsupported
from adaptr.files import replacing
from adaptr.foreign import Written, placing, same, saving
from adaptr.llama_cpp import names, rows
from adaptr_formats.gguf import binary, facts, told

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.same import Same
    from adaptr.format.io import Stored

#: The dtypes that are kept; llama.cpp computes with no other floats.
KEPT = frozenset({"F32", "F16", "BF16"})
#: Relative difference of scales that the file's alpha, in fp32, does not tell apart.
EQUAL = 2**-23
#: What becomes of an aLoRA there (its PR#15327).
BEGINS = (
    "the token that an aLoRA begins at: the server works it from the one before its invocation on, and llama.cpp's "
    "other programs everywhere"
)
MERGE = "`adaptr merge` writes a checkpoint with it, which llama.cpp's converter takes"


def based(adapter: Adapter, base: BaseModel) -> Adapter:
    """`adapter` with what the file's layout goes by, as its base has it."""
    from adaptr.checkpoint.skeleton import skeleton

    said = facts.of_model(skeleton(base)).as_dict()
    return adapter.replace(foreign={**adapter.foreign, "gguf": {**adapter.foreign.get("gguf", {}), **said}})


def lost(adapter: Adapter) -> list[str]:
    """What has no place in such a file. Raises `Unsupported` for what is no LoRA of llama.cpp's."""
    _require_lora(adapter)
    rates = {target.config["dropout"] for target in adapter.targets.values()}
    wide = any(_dtype(value) == "F64" for path in adapter.targets for value in same.at(adapter, path).values())
    return [
        *saving.lost(adapter),
        *([BEGINS] if adapter.method == "alora" else []),
        *(["dropout rates of their own"] if len(rates) > 1 else []),
        *(["the precision of fp64 (it is written as fp32)"] if wide else []),
    ]


def save(adapter: Adapter, out: Path, force: bool) -> Written:
    """Write one file. Raises `ConfigMissing` where the base is not known, `Unsupported` for layers it can't have."""
    _require_lora(adapter)
    said = facts.kept(adapter.foreign)
    if said is None:
        raise ConfigMissing(
            "llama.cpp's names and order of rows go by the base's architecture, which is not known",
            hint="give the base (`--base`, a folder with its `config.json`, or its GGUF file)",
        )
    plain, alpha = saving.plain(adapter), _common(adapter)
    places = _named(plain, said)
    found = [(f"{path}:{side}", f"{theirs}.weight.lora_{side.lower()}", stored)
             for path, theirs in places.items()
             for side, stored in _factors(plain, path, theirs, said, alpha)]  # fmt: skip
    with replacing(out, force) as file:
        binary.write(file, told.values(adapter, said, alpha), [(name, stored) for _, name, stored in found])
    return Written(out, {ours: name for ours, name, _ in found})


def _require_lora(adapter: Adapter) -> None:
    """Raises `Unsupported` for other methods, biases and whole parameters, of which llama.cpp loads none."""
    if adapter.method not in {"lora", "alora"}:
        raise Unsupported(
            f"llama.cpp loads LoRA and aLoRA alone, and `{adapter.method}` is neither",
            hint="`adaptr convert --method lora` makes one of what has a weight, with its error; or merge it",
        )
    biased = next((path for path, target in adapter.targets.items() if target.config.get("bias")), "")
    if biased:
        raise Unsupported(f"`{biased}` has a bias, which llama.cpp's LoRA has no place for", hint=MERGE)
    if adapter.replaced_paths:
        raise Unsupported(
            f"`{adapter.replaced_paths[0]}` is replaced as a whole (`modules_to_save`, or embeddings that were "
            "trained), which llama.cpp's LoRA has no place for",
            hint=MERGE,
        )


# ---------------------------------------------------------------- names


def _named(adapter: Adapter, said: facts.Facts) -> dict[str, str]:
    """{path: llama.cpp's name}, in the order of layers. Raises `Unsupported` where llama.cpp has no LoRA."""
    known = names.of(said.architecture)
    found: dict[str, str] = {}
    for path in placing.ordered(adapter.targets):
        theirs = known.theirs(path)
        _require_place(adapter.targets[path], theirs, said)
        if theirs in found.values():
            raise Unsupported(f"`{path}` and another target are both `{theirs}`", hint="leave one of them out")
        found[path] = theirs
    return found


def _require_place(target: Target, theirs: str, said: facts.Facts) -> None:
    looked_up = theirs == names.EMBEDDINGS
    if not theirs or target.kind not in ({kinds.TABLE} if looked_up else kinds.LAYERS):
        raise Unsupported(
            f"`{target.path}` ({target.kind}) is no place at which llama.cpp loads a LoRA of `{said.architecture}`",
            hint=MERGE,
        )
    if said.tied and theirs in (names.EMBEDDINGS, names.HEAD):
        raise Unsupported(
            f"`{target.path}`: the base's head is its embeddings, one matrix in llama.cpp, which loads no LoRA of "
            "either alone",
            hint=MERGE,
        )


# ---------------------------------------------------------------- scales and factors


def _alpha(config: Mapping[str, Any]) -> float:
    """s·r: the alpha that gives a layer's scale over its rank."""
    alpha = float(config["alpha"])
    return alpha * math.sqrt(config["r"]) if config["rslora"] else alpha


def _common(adapter: Adapter) -> float:
    """The alpha of most layers, of fp32: 0 would stand for another scale there."""
    every = (_alpha(adapter.targets[path].config) for path in placing.ordered(adapter.targets))
    counted = Counter(alpha for alpha in every if 1e-30 < abs(alpha) < 1e30)
    alpha = counted.most_common(1)[0][0] if counted else 1.0
    return float(struct.unpack("<f", struct.pack("<f", alpha))[0])


def _factors(adapter: Adapter, path: str, theirs: str, said: facts.Facts, alpha: float) -> Iterator[tuple[str, Stored]]:
    """(`A` or `B`, what is stored of it)."""
    found, order = same.at(adapter, path), names.of(said.architecture).rows
    factor = _alpha(adapter.targets[path].config) / alpha
    a: Tensor | Same = found["A"].tensor.mT.contiguous() if theirs == names.EMBEDDINGS else found["A"]
    b: Tensor | Same = found["B"]
    if rows.moved(order, theirs):
        b = found["B"].tensor[rows.order(order, theirs, b.shape[0], said.heads)]
    if abs(factor - 1) > EQUAL:
        whole = b.tensor if isinstance(b, same.Same) else b
        b = (whole.double() * factor).float()
    yield "A", _floats(a)
    yield "B", _floats(b)


def _floats(value: Tensor | Same) -> Stored:
    stored = same.laid(value)
    if stored[0] in KEPT:
        return stored
    return same.laid((value.tensor if isinstance(value, same.Same) else value).float())


def _dtype(value: Same) -> str:
    return same.laid(value)[0]
