"""Compacter++: y = h + g(h D + b_d) U + b_u, D = Σᵢ Aᵢ ⊗ (sᵢ tᵢ) and U likewise, A of all, after feed-forwards alone.
Karimi Mahabadi, Henderson and Ruder 2021, arXiv:2106.04647.

Choose it before `compacter`: half of its numbers and of what it costs each token, and in the paper it did as well. It
can't be merged either.
"""

from __future__ import annotations

from typing import ClassVar

from adaptr_plugins.insert.compacter import Compacter


class CompacterPP(Compacter):
    name = "compacter-pp"
    targets: ClassVar[tuple[str, ...]] = ("ffn_out",)
