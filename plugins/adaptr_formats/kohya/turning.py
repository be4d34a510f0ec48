"""OFT and BOFT for LyCORIS, which turns outputs, without a series, and BOFT with as many factors as blocks allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported, phrases
from adaptr.foreign.pieces.rotations import from_halves

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.foreign.same import Same


def require_held(method: str, path: str, config: Mapping[str, Any]) -> None:
    if config["side"] != "out":
        raise Unsupported(
            f"`{path}`: LyCORIS's {method.upper()} turns outputs, and this one turns inputs",
            hint="train it with `side` out, or merge it",
        )
    if method == "oft" and config["terms"]:
        raise Unsupported(f"`{path}`: LyCORIS's OFT has no series (`terms`)", hint=phrases.OWN)
    if method == "boft" and (config["b"] % 2 or config["n"] & (config["n"] - 1)):
        raise Unsupported(
            f"`{path}`: LyCORIS's BOFT has even blocks, whose number is a power of two, and this has {config['n']} of "
            f"{config['b']}",
            hint=phrases.OWN,
        )


def laid(method: str, config: Mapping[str, Any], name: str, value: Same, ones: tuple[int, ...]) -> Tensor | Same | None:
    """A tensor as it lies there; factors of outputs that are all 1 do not."""
    if name == "s":
        return value.reshape((value.shape[0], *ones)) if method == "oft" or bool((value.tensor != 1).any()) else None
    return _blocks(value.tensor, config["b"]) if method == "oft" else _factors(value.tensor)


def _blocks(Q: Tensor, b: int) -> Tensor:
    """Blocks X (blocks, b, b) with Xᵀ - X of these entries above the diagonal."""
    import torch

    i, j = torch.triu_indices(b, b, 1)
    X = Q.new_zeros(len(Q), b, b)
    X[:, i, j] = -Q
    return X


def _factors(Q: Tensor) -> Tensor:
    """(factors, n, b, b), with blocks of zeros for the factors that LyCORIS has more."""
    import torch

    back = torch.tensor(from_halves(Q.shape[-1])).argsort()
    X = (Q / -2)[..., back, :][..., back]
    more = X.shape[1].bit_length() - len(X)
    return torch.cat([X, X.new_zeros(more, *X.shape[1:])])
