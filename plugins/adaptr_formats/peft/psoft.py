"""PEFT's PSOFT: method `psoft`. The frozen factors are not in a file: they are made of the base's weights.

So they are what PEFT makes of the same weights on the same machine. With other bits, or another library, singular
vectors can have other signs, and PEFT itself does something else with a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, Shapes
from adaptr.foreign.weights import Weights
from adaptr_formats.peft._framed import Framed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.peft.source import Source

INNER = "psoft_R"
#: PEFT's names to ours.
STARTS = {"psoft_init": "psoft", "pissa_init": "pissa"}
#: How many rounds of subspace iteration are believed.
MOST = 1000
#: adaptr's flags to PEFT's.
FLAGS = {"orthogonal": "psoft_orth", "a": "psoft_mag_a", "b": "psoft_mag_b"}


class PSOFT(Framed):
    name = "psoft"
    methods = ("psoft",)
    slots = {"Q": INNER, "C": INNER, "a": f"{INNER}.vector_a", "b": f"{INNER}.vector_b"}
    weight = frozenset({INNER})
    table = {
        "r": Field("r", int, 32, called="ranks"),
        "alpha": Field("psoft_alpha", default=32.0, called="alphas"),
        "dropout": Field("psoft_dropout", default=0.0, called="dropout rates"),
        "rounds": Field("psoft_svd_lowrank_niter", int, 10, called="rounds"),
        "svd_seed": Field("random_seed", int, 0, called="seeds"),
    }
    frame = ("A", "B")

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        start, svd = (fields_of.text(config, name) for name in ("ab_svd_init", "psoft_svd"))
        if (start or "psoft_init") not in STARTS:
            raise fields_of.misread("ab_svd_init", start, " or ".join(STARTS))
        flags = {ours: config.get(theirs) is None or fields_of.flag(config, theirs) for ours, theirs in FLAGS.items()}
        terms = fields_of.size(config, "num_cayley_neumann_terms", 5) if config.get("use_cayley_neumann") else 0
        if terms in (1, 2):
            raise Unsupported("`num_cayley_neumann_terms`", got=terms, want="at least 3", hint="merge it with PEFT")
        longest = fields_of.number(config, "cayley_neumann_eps") if config.get("cayley_neumann_eps") else 0.0
        said = {"start": STARTS[start or "psoft_init"], "svd": svd or "full", **flags, "longest": longest}
        # of three terms PEFT makes four
        values = super().values(config, path)
        if not 0 < values["rounds"] <= MOST or not 0 <= values["svd_seed"] < 2**63:
            raise fields_of.misread("psoft_svd_lowrank_niter", values["rounds"], f"1 to {MOST}, and a seed of 63 bits")
        return fields_of.complete("psoft", {**values, **said, "terms": terms and max(terms, 4)})

    def wanted(self, values: Mapping[str, Any]) -> Mapping[str, str]:
        inner = "Q" if values["orthogonal"] else "C"
        return {name: self.slots[name] for name in (inner, *(side for side in "ab" if values[side]))}

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        found = placing.place(model, path, "a PSOFT file doesn't say how large its layers are")
        return Target(path, found.kind, found.shape, values)

    def unsaved(self, source: Source, model: nn.Module | None, target: Target) -> Mapping[str, Tensor]:
        assert source.weights is not None
        return dict(zip("AB", _frame(source.weights, target), strict=True))

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        names = ("start", "svd", "orthogonal", "a", "b", "terms", "longest")
        said = {tuple(target.config[name] for name in names) for target in adapter.targets.values()}
        if len(said) > 1 or any(target.kind != kinds.LINEAR for target in adapter.targets.values()):
            raise Unsupported(
                "PEFT's PSOFT has one start and one kind of turn, and works on linear layers alone", hint=phrases.OWN
            )
        start, svd, orthogonal, a, b, terms, longest = said.pop()
        return {
            **super().fields(adapter),
            **dict(zip(FLAGS.values(), (orthogonal, a, b), strict=True)),
            "ab_svd_init": next(theirs for theirs, ours in STARTS.items() if ours == start),
            "psoft_svd": svd,
            "use_cayley_neumann": bool(terms),
            "num_cayley_neumann_terms": terms or 5,
            "cayley_neumann_eps": longest or None,
        }

    def frames(self, adapter: Adapter, base: BaseModel) -> Iterator[tuple[str, Tensor, Tensor]]:
        weights = Weights(base)
        for path, target in adapter.targets.items():
            for name, made in zip(self.frame, _frame(weights, target), strict=True):
                yield f"`{path}`", adapter.at(path)[name], made


def _frame(weights: Weights, target: Target) -> tuple[Tensor, Tensor]:
    from adaptr_plugins.delta.psoft import Config, frame

    stored = weights.weight(target.path).detach()
    return frame(stored.t() if target.transposed else stored, Config(**target.config))
