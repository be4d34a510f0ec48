"""What a GGUF adapter's layout goes by and an adapter doesn't say: architecture and heads, as its base has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import ConfigMissing, TargetMismatch, phrases
from adaptr.llama_cpp import names
from adaptr.llama_cpp.rows import UNKNOWN, Heads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from adaptr.format.gguf import GgufHeader


@dataclass(frozen=True)
class Facts:
    """`tied`: whether the base's head is its embeddings; None where it is not known."""

    architecture: str
    heads: Heads = UNKNOWN
    tied: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        said = {"architecture": self.architecture, **self.heads.said}
        return said if self.tied is None else {**said, "tied": self.tied}


def of_model(model: nn.Module) -> Facts:
    """Raises `ConfigMissing` for a model without a configuration, `Unsupported` for one of another architecture."""
    whole: Any = getattr(model, "config", None)
    if not hasattr(whole, "get_text_config"):
        raise ConfigMissing("the base has no configuration that says its architecture and heads", hint=phrases.BASE)
    config = whole.get_text_config()
    queries = int(getattr(config, "num_attention_heads", 0) or 0)
    tied = bool(getattr(whole, "tie_word_embeddings", False))
    return Facts(names.of_model(config.model_type), Heads(queries, _keys(config.to_dict(), queries)), tied)


def _keys(config: Mapping[str, Any], queries: int) -> int:
    """Heads of keys and values; of Falcon as its classes split the fused projection."""
    if config["model_type"] == "falcon":
        if config["new_decoder_architecture"]:
            return int(config["num_kv_heads"])
        return 1 if config["multi_query"] else queries
    return int(config.get("num_key_value_heads") or queries)


def of_header(header: GgufHeader) -> Facts:
    """What the file itself says: adaptr writes heads under the names that a model's file has them by."""
    name = header.text("general.architecture")
    queries = header.count(f"{name}.attention.head_count")
    return Facts(name, Heads(queries, header.count(f"{name}.attention.head_count_kv")))


def agreed(said: Facts, base: Facts | None) -> Facts:
    """Both. Raises `TargetMismatch` where they contradict each other."""
    if base is None:
        return said
    if said.architecture != base.architecture or (said.heads.queries and said.heads != base.heads):
        raise TargetMismatch(
            "the base",
            got=f"`{base.architecture}` with {base.heads.queries} heads and {base.heads.keys} of keys",
            want=f"`{said.architecture}`"
            + (f" with {said.heads.queries} and {said.heads.keys}" if said.heads.queries else ", as the file says"),
            hint=phrases.BASE,
        )
    return base


def kept(foreign: Mapping[str, Any]) -> Facts | None:
    """What an adapter keeps of it, None for nothing."""
    said = foreign.get("gguf")
    if not isinstance(said, dict) or not isinstance(said.get("architecture"), str):
        return None
    counts = [said.get(name, 0) for name in ("heads", "kv_heads")]
    whole = all(isinstance(count, int) and 0 <= count < 1 << 16 for count in counts)
    return Facts(said["architecture"], Heads(*counts) if whole else UNKNOWN, bool(said.get("tied")))
