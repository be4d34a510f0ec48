"""Hybrid: any methods trained together as one adapter, each as it is alone, in the order of their names.  Kept as
one file; after He et al. 2021, arXiv:2110.04366.

`--method lora+prefix` makes one of a LoRA and a prefix. `fields` has what is said of each by its name, `targets` among
it, and each learns at its own rate, in proportion. Merged where all parts can be. The identity only if all parts are.

Choose it where two methods do what one can't, such as `lora+prefix` or `dora+prompt`, and are to learn to go together.
It costs what its parts cost, and fails like the first of them: with a prefix among them nothing can be merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr import Composite, plugins
from adaptr.contract.capabilities import TOGETHER
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from adaptr.targets import Spec


@dataclass(frozen=True)
class Config:
    methods: list[str] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)


class Hybrid(Composite[Config]):
    name = "hybrid"
    default_for = frozenset({TOGETHER})
    small = {"methods": ["lora", "prefix"], "fields": {"lora": {"r": 4}, "prefix": {"tokens": 3}}}

    def parts(self, cfg: Config) -> Mapping[str, tuple[str, Spec, Mapping[str, Any]]]:
        return {name: (name, *_said(cfg.fields.get(name, {}))) for name in cfg.methods}

    def config(self, values: Mapping[str, Any]) -> Config:
        made = super().config(values)
        twice = {name for name in made.methods if made.methods.count(name) > 1}
        if twice or not made.methods:
            got = f"`{twice.pop()}` twice" if twice else "none"
            raise BadConfig("`hybrid`: `methods`", verb="names", got=got, want="one or more methods, each once")
        for name, own in made.fields.items():
            if name not in made.methods:
                raise BadConfig("`hybrid`: `fields`", got=f"`{name}`", want=f"some of {', '.join(made.methods)}")
            if not isinstance(own, Mapping):
                raise BadConfig(f"`hybrid`: `fields` of `{name}`", got=repr(own), want="fields of that method")
        for method, _, own in self.parts(made).values():
            plugins.method(method).config(own)
        return made


def _said(values: Mapping[str, Any]) -> tuple[Spec, dict[str, Any]]:
    """Targets, None for the method's own, and its configuration."""
    return values.get("targets"), {key: value for key, value in values.items() if key != "targets"}
