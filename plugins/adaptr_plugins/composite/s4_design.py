"""S4: layers in four groups, the outer ones smaller, each with methods of its own and as many numbers a layer.  Chen et
al. 2023, arXiv:2301.01821.

Of bottlenecks (`pfeiffer`), prefixes, LoRA at queries and values, and `bitfit`, as the paper's search found them for
T5-base, or with `design="t5-3b"` for T5-3B ([M]). `budget`: the share of the base's numbers that learn, as many in each
layer and as many of each of its methods; sizes follow from it and stand in `made`. Groups are of 2, 4, 4 and 2 of
twelve layers, which is read into the paper's picture ([R]), in each stack alike. Where a base has no biases there is no
`bitfit`. It has nothing to do with state spaces.

Choose it where a budget is given and not a method, on bases like T5 and RoBERTa, for which the design was searched. It
costs what its parts cost and can't be merged, as some of them can't; on other bases nobody has tried its groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Composite, Target, plugins, targets
from adaptr.adapter.weighting import Layers
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import nn

    from adaptr.targets import Spec

#: Letters of the paper: method, its size, and where it goes in layers of that range.
PARTS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "A": ("pfeiffer", "m", ("ffn_out@{0}",)),
    "L": ("lora", "r", ("attn.q@{0}|attn.qkv@{0}", "attn.v@{0}|attn.qkv@{0}")),
    "P": ("prefix", "tokens", ("attention@{0}",)),
    "B": ("bitfit", "", ("*@{0}",)),
}
DESIGNS = {"t5-base": ("AL", "AP", "APB", "PBL"), "t5-3b": ("PL", "AL", "PBL", "APB")}


@dataclass(frozen=True)
class Config:
    design: Literal["t5-base", "t5-3b"] = "t5-base"
    budget: float = 0.005
    made: dict[str, Any] = field(default_factory=dict)


class S4Design(Composite[Config]):
    name = "s4-design"
    unmergeable = "tokens"  # of its prefixes, which each design has
    small = {"budget": 0.2}
    least = {"budget": 0}
    most = {"budget": 1}  # a share
    kept_within = 0.07

    def parts(self, cfg: Config) -> Mapping[str, tuple[str, Spec, Mapping[str, Any]]]:
        return {name: (one["method"], one["targets"], one["fields"]) for name, one in cfg.made.items()}

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        cfg = self.config(values)
        if cfg.made:
            return values
        blocks = [place.path for place in targets.resolve(model, "ffn_out", {"module"})]
        each = cfg.budget * sum(p.numel() for p in model.parameters()) / len(blocks)
        made = {
            f"g{number}-{PARTS[letter][0]}": part
            for number, (span, letters) in enumerate(zip(_groups(blocks), DESIGNS[cfg.design], strict=True), 1)
            if span
            for letter, part in self._group(model, span, letters, each)
        }
        return {**values, "made": made}

    def _group(self, model: nn.Module, span: str, letters: str, each: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """The methods in the layers of a range, the largest that together are within `each` in a layer."""
        left = [letter for letter in letters if letter != "B" or _biased(model, span)]
        blocks = len(targets.resolve(model, f"ffn_out@{span}", {"module"}))
        room = each * blocks
        for number, letter in enumerate(sorted(left, key=lambda one: bool(PARTS[one][1]))):  # biases have their size
            method, size, words = PARTS[letter]
            spec = [word.format(span) for word in words]
            share = room / (len(left) - number)
            fields = {size: self._size(model, method, spec, size, share)} if size else {}
            room -= _count(model, method, spec, fields)
            yield letter, {"method": method, "targets": spec, "fields": fields}
        if room < 0:
            raise BadConfig(f"`{self.name}`: `budget`", got="less than the biases of a layer", want="a larger one")

    def _size(self, model: nn.Module, method: str, spec: Spec, size: str, share: float) -> int:
        one, two = (_count(model, method, spec, {size: n}) for n in (1, 2))
        found = int((share - one) // (two - one)) + 1
        if found < 1:
            raise BadConfig(
                f"`{self.name}`: `budget`",
                got=f"too small for `{method}`, which is to have {share:,.0f} numbers and has {one:,} at least",
                want="a larger one",
            )
        return found


def _groups(blocks: Sequence[str]) -> list[str]:
    """Ranges of layers, "" for none: a sixth, a third, a third, a sixth."""
    depth = Layers(blocks).last + 1
    outer = depth // 6
    ends = [0, outer, depth - outer - (depth - 2 * outer) // 2, depth - outer, depth]
    return [f"{a}-{b - 1}" if b > a else "" for a, b in pairwise(ends)]


def _biased(model: nn.Module, span: str) -> bool:
    method = plugins.method("bitfit")
    found = targets.resolve(model, f"*@{span}", method.kinds)
    return any(method.accepts(model, target) for target in found)


def _count(model: nn.Module, method: str, spec: Spec, fields: Mapping[str, Any]) -> int:
    return sum(own.count(target) for own, target in plugins.method(method).outline(model, spec, fields))
