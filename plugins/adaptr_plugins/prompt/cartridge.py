"""Cartridge: softmax over [K; K(x)], values [V; V(x)], K and V those of a long text, trained on.  Eyuboglu et al. 2025,
arXiv:2506.06266.

`text`, or `ids`, is read once by the base as it is, and the first `tokens` of its cache are where K and V (h, tokens,
d) start: fresh, the adapter is that text in front, exactly. Without it they are random. The first `frozen` tokens,
which attentions rest on, don't learn, though they are counted. The paper's training, made-up conversations about the
text answered by the base with all of it in sight, is of data that people bring. Two that are put together keep the
positions that each had: that is not the joint text. For decoders. Not the identity when fresh: columns that are
attended to change what is attended.

Choose it to have a document of thousands of tokens at the cost of reading a few hundred, many times over; it is much
work to make for once. It can't be merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Prefix, Target, targets
from adaptr.contract import Costs, Live, Run
from adaptr.errors import BadConfig, Unsupported
from adaptr.precision import wide
from adaptr_plugins.prompt._words import embedded, table_of, worded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    tokens: int = 128
    position_offset: Literal["none", "shift"] = "shift"
    frozen: int = 1
    text: str = ""
    ids: list[int] = field(default_factory=list)


class Cartridge(Prefix[Config]):
    name = "cartridge"
    small = {"tokens": 3}
    params = {"K": Param("h tokens d", init="normal:1"), "V": Param("h tokens d", init="normal:1")}

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        if getattr(model.config, "is_encoder_decoder", False):
            raise Unsupported("`cartridge` is the cache of a decoder's text", hint="choose `prefix`")
        values = worded(model, self.name, values, begins=True)
        if values.get("ids") and values["tokens"] > len(values["ids"]):
            raise BadConfig(
                f"`{self.name}`: `tokens`", got=values["tokens"], want=f"{len(values['ids'])}, the text's, or less"
            )
        return values

    def begun(self, model: nn.Module, adapter: Adapter, seed: int) -> Adapter:
        if not adapter.config["ids"] or table_of(model).weight.is_meta:
            return adapter
        return adapter.replace(tensors=cached(model, adapter))

    def keys_values(self, p: Live, cfg: Config) -> tuple[Tensor, Tensor]:
        return wide(p["K"]), p["V"]

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        """The first tokens don't learn."""
        import torch

        frozen = self.config(session.adapter.config).frozen
        for key, tensor in session.named().items():
            if frozen and key.endswith((":K", ":V")):
                free = torch.arange(tensor.shape[1]) >= frozen
                session.mask(key, free[None, :, None].expand_as(tensor))

    def costs(self, target: Target, cfg: Config) -> Costs:
        return Costs(columns=cfg.tokens)


def cached(model: nn.Module, adapter: Adapter) -> dict[str, Tensor]:
    """K and V of each target as the base's cache has them of the text. Raises `Unsupported` where it has not all."""
    import torch

    ids, tokens = adapter.config["ids"], adapter.config["tokens"]
    embedded(model, adapter.method, ids)  # that it has them
    with torch.no_grad():
        cache = model(
            input_ids=torch.tensor([ids], device=table_of(model).weight.device), use_cache=True
        ).past_key_values
    found: dict[str, Tensor] = {}
    for path in adapter.targets:
        number = getattr(targets.submodule(model, path), "layer_idx", None)
        layer = None if number is None or cache is None else cache.layers[number]
        if layer is None or layer.keys.shape[2] != len(ids):
            raise Unsupported(
                f"`{path}`: the base keeps no cache of the whole text there, {len(ids)} tokens",
                hint="take a shorter text, or leave it out to begin at random",
            )
        for name, tensor in (("K", layer.keys), ("V", layer.values)):
            found[f"{path}:{name}"] = tensor[0, :, :tokens].float().cpu().clone()
    return found
