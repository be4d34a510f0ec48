"""Gates as AdapterHub has them, of whole texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from adaptr.errors import Unsupported
from adaptr_formats.adapterhub.gates import GATE, OF, SLOTS

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Target
    from adaptr.foreign.same import Same


def require_texts(targets: Iterable[Target]) -> None:
    """Raises `Unsupported` for gates of each token."""
    if any(target.config["of"] != OF for target in targets):
        raise Unsupported(
            "AdapterHub's gates are the mean of a text's tokens, and of this each token has its own (`of` token)",
            hint=f"make the adapter with `of={OF}`, and train it so",
        )


def slots(own: dict[str, Same], at: str, count: int = 1, prefix: str = GATE) -> dict[str, tuple[str, Tensor | Same]]:
    """By adaptr's names: AdapterHub's key and the tensor."""
    laid = {"g": own["g"].reshape((count, own["g"].shape[0] // count)), "c": own["c"]}
    return {name: (f"{at}.{prefix}{SLOTS[name]}", value) for name, value in laid.items()}
