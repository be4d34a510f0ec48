"""In which order llama.cpp has the outputs of a layer: rows of `lora_b`, the same as those of the weight.

`rotary`: of queries and keys, whose halves of a head alternate, as rotary embeddings take them there. `bloom` and
`falcon`: of the fused projection, all queries, then all keys, then all values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from adaptr.errors import ConfigConflict, ConfigMissing, phrases

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

#: By order: the layers whose rows it moves.
MOVED = {"rotary": ("attn_q", "attn_k"), "bloom": ("attn_qkv",), "falcon": ("attn_qkv",)}
#: What of it goes by the heads of keys and values.
BY_KEYS = "attn_k"


class Heads(NamedTuple):
    """Of queries, and of keys and values; 0 for what is not known."""

    queries: int = 0
    keys: int = 0

    @property
    def said(self) -> Mapping[str, Any]:
        return {name: count for name, count in (("heads", self.queries), ("kv_heads", self.keys)) if count}


UNKNOWN = Heads()


def moved(order: str, theirs: str) -> bool:
    """Whether llama.cpp has the rows of `theirs` (`blk.0.attn_q`) in an order of its own."""
    return theirs.rpartition(".")[2] in MOVED.get(order, ())


def order(order: str, theirs: str, rows: int, heads: Heads) -> Tensor:
    """Which of transformers' `rows` each of llama.cpp's is, (rows,).

    Raises `ConfigMissing` where the heads are not known, `ConfigConflict` where the rows are not those of such heads.
    """
    import torch

    count = heads.keys if order == "rotary" and theirs.endswith(BY_KEYS) else heads.queries
    if not count:
        raise ConfigMissing(
            f"`{theirs}`: llama.cpp has its rows in an order that goes by the model's heads, which are not known",
            hint="give the base (`--base`, a folder with its `config.json`, or its GGUF file)",
        )
    own = torch.arange(rows)
    if order == "falcon":
        return _grouped(theirs, own, heads)
    if order == "bloom":
        return own.reshape(count, 3, _size(theirs, rows, 3 * count)).swapaxes(0, 1).reshape(-1)
    half = _size(theirs, rows, 2 * count)
    return own.reshape(count, 2, half).swapaxes(1, 2).reshape(-1)


def _size(theirs: str, rows: int, count: int) -> int:
    """Rows of each of `count` parts."""
    if rows % count:
        raise _other(theirs, rows)
    return rows // count


def _grouped(theirs: str, own: Tensor, heads: Heads) -> Tensor:
    """Falcon's: groups of queries with a key and a value each."""
    import torch

    size, rest = divmod(len(own), heads.queries + 2 * heads.keys)
    if rest or not heads.keys or heads.queries % heads.keys:
        raise _other(theirs, len(own))
    groups = own.reshape(heads.keys, heads.queries // heads.keys + 2, size)
    return torch.cat([groups[:, :-2].reshape(-1), groups[:, -2].reshape(-1), groups[:, -1].reshape(-1)])


def _other(theirs: str, rows: int) -> ConfigConflict:
    return ConfigConflict(
        f"`{theirs}` has {rows} rows, which are not those of the base's heads",
        hint=phrases.BASE,
    )
