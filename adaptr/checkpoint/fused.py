"""Layers that some models keep as rows of one: which, in which order, how many rows each."""

from __future__ import annotations

from collections.abc import Mapping

from adaptr.errors import TargetMismatch

#: Layers that some checkpoints store as one: its name, and theirs in the order of the rows.
FUSED = (("qkv_proj", ("q_proj", "k_proj", "v_proj")), ("gate_up_proj", ("gate_proj", "up_proj")))


def fused_sizes(config: Mapping[str, object], order: tuple[str, ...], rows: int) -> list[int]:
    """How many rows each has. Raises `TargetMismatch` where they don't divide as the configuration says."""
    if len(order) == 2:
        return [rows // 2, rows // 2]
    heads = int(str(config.get("num_attention_heads", 0)))
    groups = int(str(config.get("num_key_value_heads") or heads))
    if not heads or rows % (heads + 2 * groups):
        raise TargetMismatch(
            f"{rows} fused rows don't divide into {heads} query and 2 x {groups} key/value heads",
            hint="correct the numbers of heads in the base's `config.json`",
        )
    width = rows // (heads + 2 * groups)
    return [heads * width, groups * width, groups * width]
