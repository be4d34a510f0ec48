"""The frame that FRoD's layers of a sort share: a joint decomposition of their weights, as PEFT makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from adaptr import Target
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import Tensor, nn


def sort(path: str) -> str:
    """What is the same in all blocks: the last two words of a path, or one where the other is a number."""
    *_, above, last = ("", "", *path.split("."))
    if above.isdigit() or not above:
        return last
    found = f"{above}_{last}"
    return "attention_output" if found == "output_dense" and ".attention.output." in f".{path}" else found


def block(path: str, otherwise: int) -> int:
    """The number of the block that a path is in: after `layers`, or the first there is."""
    parts = path.split(".")
    after = parts[parts.index("layers") + 1 :][:1] if "layers" in parts else []
    return next((int(part) for part in (*after, *parts) if part.isdigit()), otherwise)


def widths(targets: Iterable[Target]) -> dict[str, int]:
    """The width of each sort of layers, sorted. Raises `BadConfig` for several."""
    found: dict[str, int] = {}
    for one in targets:
        if found.setdefault(sort(one.path), one.shape[1]) != one.shape[1]:
            raise BadConfig(
                f"`frod`: the layers `{sort(one.path)}`",
                verb="are",
                got=f"{found[sort(one.path)]} and {one.shape[1]} wide",
                want="of one width, as they share a frame",
            )
    return dict(sorted(found.items()))


def count(width: int, rate: float) -> int:
    """How many places S has, rounded as PEFT does."""
    return max(1, int(min(width * width * rate, width * width - width))) if rate > 0 and width > 1 else 0


def members(targets: Iterable[Target], wanted: str) -> list[Target]:
    """The layers of a sort whose weights make the frame, in PEFT's order: one for each number of a block."""
    found = {block(one.path, n): one for n, one in enumerate(targets) if sort(one.path) == wanted}
    return [one for _, one in sorted(found.items())]


def frame(weights: list[Tensor], ridge: float, of: str) -> Tensor:
    """V (in, in) of the weights (out, in) of a sort, fp32. Raises `BadConfig` for fewer rows in all than columns."""
    import torch

    every = torch.cat([W.float() for W in weights])
    rows, width = every.shape
    if rows < width:
        raise BadConfig(
            f"`frod`: the layers `{of}`",
            verb="have",
            got=f"{rows} rows in all",
            want=f"at least {width}, their width: of fewer nothing says how the frame goes on",
            hint="leave them out of the targets",
        )
    Q, R = torch.linalg.qr(every)
    one = ridge * torch.eye(width)
    inverses = [torch.linalg.inv(part.mT @ part + one) for part in Q.split([len(W) for W in weights])]
    made: Tensor = R.mT @ torch.linalg.eigh(sum(inverses[1:], inverses[0]) / len(inverses)).eigenvectors
    return made


def sides(W: Tensor, V: Tensor) -> Tensor:
    """U (out, in), and below it l₀ (in), of W = U diag(l₀) Vᵀ with columns of length 1."""
    import torch

    X = torch.linalg.solve(V.double(), W.double().mT).mT
    lengths = X.norm(dim=0)
    return torch.cat([X / lengths.where(lengths != 0, 1.0), lengths.unsqueeze(0)]).to(W.dtype)


def frames(targets: list[Target], weight: Callable[[Target], Tensor], ridge: float) -> Iterator[tuple[str, Tensor]]:
    """Each sort with its V. `weight`: of a layer, (out, in)."""
    for name in widths(targets):
        yield name, frame([weight(one) for one in members(targets, name)], ridge, name)


def started(model: nn.Module, targets: list[Target]) -> dict[str, Tensor]:
    """All frames, all places, and l₀ of each layer, by their keys."""
    import torch

    from adaptr import host
    from adaptr.algebra import stream

    cfg, V, i = targets[0].config, [], []
    made: dict[str, Tensor] = {}
    if host.is_meta(model):
        return {}

    def weight(target: Target) -> Tensor:
        return host.view_of(model, target).weight.detach().float()

    for name, own in frames(targets, weight, cfg["ridge"]):
        layers = [one for one in targets if sort(one.path) == name]
        width, n = len(own), layers[0].config["n"]
        drawn = stream.choose(cfg["seed"], f"frod.{name}", width * width - width, n)
        V.append(own.flatten())
        i.append(drawn + 1 + drawn // width)  # of each `width` in a row, the first would be on the diagonal
        made |= {f"{one.path}:l": sides(weight(one), own)[-1] for one in layers}
    return {**made, ":V": torch.cat(V), ":i": torch.cat(i)}
