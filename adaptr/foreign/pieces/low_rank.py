"""LoRA with its alpha beside it, also of convolutions, with a core (Tucker) or magnitudes (DoRA).

W' = W + (alpha / r) up down. A core lies between them, up·mid·down; with magnitudes it goes into `A`: that is a DoRA of
the same rank.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr.adapter import WHOLE, Target, kinds
from adaptr.errors import Unsupported
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Layer, Module, complete

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter

DOWN, UP, MID, MAGNITUDE = "lora_down.weight", "lora_up.weight", "lora_mid.weight", "dora_scale"
#: What PEFT calls them: always those of the outputs. And the bias of its second factor, which is scaled too.
PEFT_MAGNITUDE, BIAS = "lora_magnitude_vector", "lora_B.bias"
SLOTS = (DOWN, UP, MID, BIAS)


def read(module: Module) -> Layer:
    """The method `lora`, or `dora` where there are magnitudes of outputs."""
    r, into, *kernel = module.shape(DOWN, (2, 3, 4, 5))
    out = module.shape(UP, (2, 3, 4, 5))[0]
    module.require(UP, math.prod(module.shapes[UP]) == out * r, f"({out}, {r}), as `{DOWN}` has rank {r}")
    method = "dora" if module.has(MAGNITUDE, PEFT_MAGNITUDE) else "lora"
    pieces = {"A": module.piece(DOWN, (r, into, *kernel))}
    said: dict[str, Any] = {"bias": True} if module.has(BIAS) else {}
    if module.has(MID):
        kernel = _kernel(module, r, into)
        cored = method == "lora"
        pieces = _apart(module, r, into, kernel) if cored else {"A": _joined(module, (r, into, *kernel))}
        said |= {"tucker": True} if cored else {}
    ones = tuple(1 for _ in kernel)
    target = Target(
        module.path,
        kinds.convolution(len(kernel)) if kernel else kinds.LINEAR,
        (out, into, *kernel),
        complete(method, {"r": r, **module.scaled(r), **said}),
    )
    pieces |= {"B": module.piece(UP, (out, r, *ones))}
    pieces |= {"b": module.piece(BIAS, module.shape(BIAS, (1,)))} if module.has(BIAS) else {}
    pieces |= {"m": magnitudes(module, out)} if method == "dora" else {}
    return Layer(method, placing.agreed(module.model, target), pieces)


def _kernel(module: Module, r: int, into: int) -> list[int]:
    """The kernel of a core (r, r, *k). Raises `ConfigConflict` unless (r, in) belongs to it."""
    _, _, *kernel = module.shape(MID, (3, 4, 5))
    module.require(MID, module.shapes[MID][:2] == (r, r), f"({r}, {r}) before the kernel")
    module.require(DOWN, math.prod(module.shapes[DOWN]) == r * into, f"({r}, {into}), as the kernel is the core's")
    return kernel


def _apart(module: Module, r: int, into: int, kernel: list[int]) -> dict[str, Piece]:
    return {"t": module.piece(MID, (r, r, *kernel)), "d": module.piece(DOWN, (r, into))}


def _joined(module: Module, shape: tuple[int, ...]) -> Piece:
    """`A` (r, in, *k) made of both."""

    def through(down: Tensor) -> Tensor:
        return _through(module.file[module.keys[MID]], down.reshape(shape[:2])).to(down.dtype)

    return Piece(module.keys[DOWN], shape, then=through)


def _through(core: Tensor, down: Tensor) -> Tensor:
    """The core (r, r, *k) applied to (r, in), in fp64 and term by term: the same bits on every machine."""
    rows = down.double().view(*down.shape, *(1 for _ in core.shape[2:]))
    total = core[:, 0].double().unsqueeze(1) * rows[0]
    for j in range(1, len(down)):
        total = total + core[:, j].double().unsqueeze(1) * rows[j]
    return total


def folded(adapter: Adapter) -> Adapter:
    """A LoRA with its cores in `A`, of the same rank, for tools that have none."""
    if adapter.method != "lora" or not any(target.config.get("tucker") for target in adapter.targets.values()):
        return adapter
    adapter = adapter.floats()
    targets = {path: replace(one, config={**one.config, "tucker": False}) for path, one in adapter.targets.items()}
    tensors = {key: tensor for key, tensor in adapter.tensors.items() if key.endswith(WHOLE)}
    for path, target in adapter.targets.items():
        own = dict(adapter.at(path))
        if target.config.get("tucker"):
            del own["t"], own["d"]
            own["A"] = adapter[path].low_rank().A
        tensors |= {f"{path}:{name}": tensor for name, tensor in own.items()}
    return adapter.replace(config={**adapter.config, "tucker": False}, targets=targets, tensors=tensors)


def magnitudes(module: Module, out: int) -> Piece:
    """Magnitudes of the outputs. Raises `Unsupported` for those of the inputs."""
    if module.has(PEFT_MAGNITUDE):
        module.require(PEFT_MAGNITUDE, math.prod(module.shapes[PEFT_MAGNITUDE]) == out, f"{out} magnitudes of outputs")
        return module.piece(PEFT_MAGNITUDE, (out,))
    shape = module.shapes[MAGNITUDE]
    if math.prod(shape) == out and shape[0] == out:
        return module.piece(MAGNITUDE, (out,))
    if shape[:1] == (1,) and len(shape) > 1:
        raise Unsupported(
            f"`{module.keys[MAGNITUDE]}` has shape {shape}: magnitudes of the inputs, where adaptr's `dora` has those "
            "of the outputs",
            hint="merge it with the tool that wrote it; LyCORIS trains the other with `wd_on_output=True`",
        )
    raise module.misshapen(MAGNITUDE, f"({out}, 1)")


def joined(adapter: Adapter) -> Adapter:
    """The plain LoRA that does the same, of whatever rank that takes."""
    from adaptr import plugins

    targets, tensors = {}, {key: tensor for key, tensor in adapter.tensors.items() if key.endswith(":=")}
    for path, target in adapter.targets.items():
        low = adapter[path].low_rank()
        r, b = low.A.shape[0], adapter.at(path).get("b")
        values = {"r": r, "alpha": low.scale * r, "rslora": False}
        kept = {name: target.config[name] for name in ("dropout", "bias")}
        targets[path] = replace(target, config={**kept, **values})
        tensors |= {f"{path}:A": low.A, f"{path}:B": low.B, **({} if b is None else {f"{path}:b": b})}
    config = vars(plugins.method("lora").config({}))
    return adapter.replace(method="lora", config=dict(config), targets=targets, tensors=tensors, quantization={})
