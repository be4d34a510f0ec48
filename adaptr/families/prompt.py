"""Prompt methods: virtual tokens in front of the text, or virtual keys and values in front of every attention.

Masks, positions, labels and caches are the hosts' business (`adaptr.sites.prompt`, `adaptr.sites.attention`); an author
supplies `params` and either `prompt(p, cfg)` or `keys_values(p, cfg)`. What is put in front may be computed of other
tensors, by an encoder or as a product; `plain` says which fields of a configuration say that it is not, and `finish`
leaves the result alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.adapter import kinds
from adaptr.contract import Live, Mount
from adaptr.contract.settings import C
from adaptr.errors import BadConfig, TargetMismatch, Unsupported, phrases
from adaptr.families import baked
from adaptr.families.base import Method

#: Fields of configurations that say where tokens stand, and the text.
PLACED = ("position_offset", "place", "ahead", "slot")

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import DynamicCache

    from adaptr.adapter import Adapter, Target
    from adaptr.host import Session
    from adaptr.sites.attention import Attend, Attended


class Tokens(Method[C]):
    """What soft prompts and prefixes share: no weight holds them, and they are there or not."""

    family: ClassVar[str] = "prompt"
    unmergeable: ClassVar[str] = "tokens"
    averages: ClassVar[bool] = True
    identity: ClassVar[bool] = False
    #: Fields of the configuration by which what is put in front is a tensor, where it is computed of others before.
    plain: ClassVar[Mapping[str, Any]] = {}

    def front(self, p: Live, cfg: C) -> dict[str, Tensor]:
        """The tensors of a plain adapter that puts the same in front."""
        raise NotImplementedError

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        return self.materialised(super().finish(session, adapter))

    def materialised(self, adapter: Adapter) -> Adapter:
        found = vars(self.config(adapter.config))
        if all(found[name] == value for name, value in self.plain.items()):
            return adapter
        import torch

        tensors = {f"{path}:=": tensor for path, tensor in adapter.replaced.items()}
        with torch.no_grad():
            for path, target in adapter.targets.items():
                made = self.front(adapter.at(path), self.config(target.config))
                tensors |= {self.key(path, name): tensor.float().contiguous() for name, tensor in made.items()}
        targets = {path: replace(t, config={**t.config, **self.plain}) for path, t in adapter.targets.items()}
        return adapter.replace(config={**adapter.config, **self.plain}, targets=targets, tensors=tensors)

    def alike(self, adapter: Adapter) -> Adapter | None:
        """What a method of the same sort of tokens puts in front, as tokens of this method that are not computed."""
        from adaptr import plugins

        other = plugins.method(adapter.method)
        if not isinstance(other, Tokens) or (other.kinds, other.tokens) != (self.kinds, self.tokens):
            return None
        plain = other.materialised(adapter)
        first = next(iter(plain.tensors.values()))
        if any(name not in vars(self.config({})) for name in placed_otherwise(plain)):
            return None
        same = {"tokens", *PLACED} & set(vars(self.config({}))) & set(plain.config)
        said = {**{name: plain.config[name] for name in same}, **self.plain}
        said |= {"rows": len(first)} if "rows" in vars(self.config({})) else {}
        config = vars(self.config(said)).copy()
        targets = {path: replace(target, config=config) for path, target in plain.targets.items()}
        return plain.replace(method=self.name, version=self.version, config=config, targets=targets, foreign={})

    def check_weight(self, weight: float) -> None:
        super().check_weight(weight)
        if weight != 1.0:
            raise Unsupported(
                f"`{self.name}`: virtual tokens have no strength, so the weight must be 1, not {weight:g}",
                hint="leave the weight out",
            )


class SoftPrompt(Tokens[C]):
    """Virtual tokens at the embeddings: a model-level target."""

    kinds: ClassVar[frozenset[str]] = frozenset({kinds.MODEL})
    targets: ClassVar[tuple[str, ...]] = ("model",)
    tokens: ClassVar[int | None] = 0
    formulas: ClassVar[tuple[str, ...]] = ("prompt",)
    possible: ClassVar[str] = "keep it attached; concatenate it with another prompt"

    def axes(self, target: Target, cfg: C) -> dict[str, int]:
        """Raises `BadConfig` for no tokens, more than there are rows, or rows among them that are none."""
        said = vars(cfg)
        tokens = said.get("tokens", 1)
        rows = said.get("rows", tokens)
        if not 1 <= tokens <= max(rows, 1):
            raise BadConfig(f"`{self.name}`: `tokens`", got=tokens, want=f"1 to {rows}, the rows that there are")
        wrong = [row for row in said.get("frozen", ()) if not 0 <= row < tokens]
        if wrong:
            raise BadConfig(f"`{self.name}`: `frozen`", got=wrong[0], want=f"rows from 0 to {tokens - 1}")
        return super().axes(target, cfg)

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        """A forward with rows of several sources is told whose each is."""
        several = {path: bool(self.sources(self.config(t.config))) for path, t in adapter.targets.items()}
        sites = {path: _site(target) for path, target in adapter.targets.items()}
        return [Mount(path, site, context=self.context or several[path]) for path, site in sites.items()]

    def accepts(self, model: nn.Module, target: Target) -> bool:
        if hasattr(model, "get_input_embeddings"):
            from adaptr import targets as places

            places.words_of(model)
        return super().accepts(model, target)

    def prompt(self, p: Live, cfg: C) -> Tensor:
        """The embeddings (tokens, d) that go in front, or into the slots; (batch, tokens, d) where rows of a batch have
        their own.
        """
        raise NotImplementedError

    def labels(self, cfg: C) -> Sequence[int]:
        """In training, the ids of virtual tokens that are to be predicted, -100 for others: usually of none."""
        return ()

    def shares(self, cfg: C) -> Sequence[float]:
        """How much it counts to predict each of these in training, where a text's own counts 1: usually as much."""
        return ()

    def front(self, p: Live, cfg: C) -> dict[str, Tensor]:
        return {"P": self.prompt(p, cfg)}

    def filled(self, model: nn.Module, adapter: Adapter) -> DynamicCache:
        require_in_front(adapter, "a cache has rows in front of all words")
        return baked.prompt(model, self.prompt(adapter.at(""), self.config(adapter.targets[""].config)))


class Prefix(Tokens[C]):
    """Virtual keys and values: a target per attention module."""

    kinds: ClassVar[frozenset[str]] = frozenset({kinds.ATTENTION})
    targets: ClassVar[tuple[str, ...]] = ("attention",)
    tokens: ClassVar[int | None] = 1
    formulas: ClassVar[tuple[str, ...]] = ("keys_values",)
    possible: ClassVar[str] = "keep it attached; concatenate it with another prefix"

    def placed(self, model: nn.Module, adapter: Adapter) -> Adapter:
        return placed(model, adapter)

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        shifted = {t.path for t in adapter.targets.values() if t.config.get("position_offset") == "shift"}
        return [
            Mount(path, "shifted" if path in shifted else "attention", context=self.context) for path in adapter.targets
        ]

    def attention(self, rest: Attend, a: Attended, p: Live, cfg: C, weight: float) -> tuple[Tensor, Tensor | None]:
        """Attention with these keys and values in front."""
        return rest(a.extended(*self.keys_values(p, cfg)))

    def keys_values(self, p: Live, cfg: C) -> tuple[Tensor, Tensor]:
        """Keys and values (h, tokens, d) that go in front, keys as after the position encoding."""
        raise NotImplementedError

    def front(self, p: Live, cfg: C) -> dict[str, Tensor]:
        return dict(zip("KV", self.keys_values(p, cfg), strict=True))

    def filled(self, model: nn.Module, adapter: Adapter) -> DynamicCache:
        if type(self).attention is not Prefix.attention:
            raise Unsupported(
                f"`{adapter.label}` computes an attention of its own (`{self.name}`), which no cache says",
                hint="keep it attached",
            )
        made = {path: self.keys_values(adapter.at(path), self.config(t.config)) for path, t in adapter.targets.items()}
        return baked.prefix(model, adapter, made)

    def holding(self, model: nn.Module, adapter: Adapter, cache: DynamicCache) -> Adapter:
        pairs = baked.pairs(model, adapter, cache)
        tokens = next(iter(pairs.values()))[0].shape[1]
        config = vars(self.config({"tokens": tokens, "position_offset": "shift", **self.plain})).copy()
        targets = {path: replace(target, config=config) for path, target in adapter.targets.items()}
        tensors = {
            f"{path}:{name}": tensor for path, pair in pairs.items() for name, tensor in zip("KV", pair, strict=True)
        }
        return adapter.replace(config=config, targets=targets, tensors=tensors)


def _site(target: Target) -> str:
    """Where the rows of a soft prompt are: in front of words or of what is embedded, or at slots of the text."""
    if target.config.get("slot", -1) >= 0:
        return "slots"
    return "behind" if target.config.get("place") == "embeddings" else "prompt"


def placed_otherwise(adapter: Adapter) -> list[str]:
    """The fields by which a soft prompt is elsewhere than in front of the embeddings of all words."""
    said = (target.config for target in adapter.targets.values())
    usual = {"place": "words", "ahead": 0, "slot": -1}
    return [name for one in said for name, value in usual.items() if one.get(name, value) != value]


def require_in_front(adapter: Adapter, why: str) -> None:
    """Raises `Unsupported`, with the reason, for a soft prompt that stands elsewhere."""
    elsewhere = placed_otherwise(adapter)
    if elsewhere:
        raise Unsupported(
            f"`{adapter.label}` stands elsewhere (`{elsewhere[0]}`): {why}", hint=f"train it without `{elsewhere[0]}`"
        )


def placed(model: nn.Module, adapter: Adapter) -> Adapter:
    """`adapter` with targets `attention.0`, `attention.1` ... replaced by the model's attention modules, in their
    order.

    Files that number layers have such targets. Others are returned as they are. Raises `TargetMismatch` unless there
    is one for each, and `Unsupported` in encoder-decoder models, where a number says too little.
    """
    numbered = {path: int(path.rpartition(".")[2]) for path in adapter.targets if re.fullmatch(r"attention\.\d+", path)}
    if not numbered or len(numbered) != len(adapter.targets):
        return adapter
    from adaptr import targets as places

    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise Unsupported(
            f"adapter `{adapter.label}` numbers layers, and an encoder-decoder model has three attentions a "
            "number; the tool that wrote it gave them to half of the decoder's layers, twice each",
            hint="train it again with full names of the attentions as targets",
        )
    modules = places.resolve(model, "attention", {kinds.ATTENTION})
    if len(modules) != len(numbered):
        raise TargetMismatch(
            f"adapter `{adapter.label}` is for {len(numbered)} layers, the base has {len(modules)}", hint=phrases.BASE
        )
    return adapter.renamed({path: modules[number].path for path, number in numbered.items()})
