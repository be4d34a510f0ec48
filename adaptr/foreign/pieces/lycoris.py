"""What a module's tensors do, by what LyCORIS and those who read its files call them."""

from __future__ import annotations

from adaptr.errors import Unsupported, shown
from adaptr.foreign.pieces import dense, low_rank, mixing, products, rotations, vectors
from adaptr.foreign.pieces.module import ALPHA, Layer, Module, Whole

#: What only some of its algorithms have: a slot of each, and why none of it is read.
NAMED = {
    "oft_diag": ("diag-OFT of before LyCORIS 2", ""),
    "lambda_layer": (
        "T-LoRA",
        ": its rank is another at each step of denoising, which no one weight has, and it takes off what the base's "
        "own singular vectors make",
    ),
}
_MAGNITUDE = frozenset({low_rank.MAGNITUDE, low_rank.PEFT_MAGNITUDE})
_ALGORITHMS = (
    (frozenset(low_rank.SLOTS), low_rank.read),
    (frozenset(products.LOHA), products.loha),
    (frozenset(products.LOKR), products.lokr),
    (frozenset(rotations.SLOTS), rotations.read),
    (frozenset(vectors.SLOTS), vectors.read),
    (frozenset(mixing.SLOTS), mixing.read),
)


def read(module: Module) -> list[Layer | Whole]:
    """The layers and parameters of a module. Raises `Unsupported` by the name of what adaptr can't do yet."""
    slots = module.keys.keys() - {ALPHA}
    if slots and slots <= dense.NORM.keys() and dense.is_norm(module):
        return [*dense.norm(module)]
    if slots and slots <= {dense.WEIGHT, dense.BIAS}:
        return [dense.full(module) if dense.WEIGHT in slots else dense.bias(module)]
    for own, made in _ALGORITHMS:
        if slots & own and slots <= own | _MAGNITUDE | {dense.BIAS}:
            return [made(module), *([dense.bias(module)] if dense.BIAS in slots else [])]
    raise _unread(module)


def _unread(module: Module) -> Unsupported:
    named, why = next((found for slot, found in NAMED.items() if module.has(slot)), ("an algorithm", ""))
    slot = next((slot for slot in module.keys if slot != ALPHA), ALPHA)
    return Unsupported(
        f"`{shown(module.keys[slot])}` is of {named}, which adaptr can't read from these files{why or ' yet'}",
        hint="merge it into its base with the tool that wrote it, and extract the difference (`adaptr extract`)",
    )
