"""Which model an adapter belongs to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Base:
    """The model an adapter belongs to, as far as it is known. Unknown fields are empty.

    `structure`: digest over names and shapes of all parameters. `content`: digest over samples of the values at the
    adapter's targets, so that another revision of the same architecture is noticed. `ties`: groups of tied parameters.
    """

    id: str = ""
    revision: str = ""
    architecture: str = ""
    structure: str = ""
    content: str = ""
    ties: tuple[tuple[str, ...], ...] = ()
    quantization: str = ""
