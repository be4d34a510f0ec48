"""BEFT: b' = b + β for the biases of the value projections alone.  Huang et al. 2025, arXiv:2509.15974.

BitFit at other places. (PEFT puts it on layers without a bias too; read from there it can be attached, not merged.)

Choose it for very small adapters of models whose value projections have biases, as BERT's and Qwen2's have. It costs
what a bias costs and adds nothing to inference; most language models of today have no such biases.
"""

from __future__ import annotations

from adaptr_plugins.select.bitfit import BitFit


class BEFT(BitFit):
    name = "beft"
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.v",)
    default_for = frozenset()
