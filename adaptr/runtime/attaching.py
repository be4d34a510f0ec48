"""Adapters and live models: fresh ones, attached ones, trained ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from adaptr import plugins
from adaptr.adapter import Adapter, weighting
from adaptr.errors import UsageError
from adaptr.families.also import with_whole
from adaptr.host.live import model_of
from adaptr.host.packed import require_sound
from adaptr.models.content import knowing
from adaptr.sources.given import Given, Several, Weighted, by_name, opened, single, without_weights

if TYPE_CHECKING:
    from torch import nn

    from adaptr.bulk.change import Tied
    from adaptr.host import Handle, Session
    from adaptr.host.tree import Block
    from adaptr.targets import Spec


def create(
    model: nn.Module,
    method: str = "lora",
    targets: Spec = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    name: str = "",
    children: Several | None = None,
    also: str | Sequence[str] = (),
    tied: Literal["untie"] | None = None,
    **config: object,
) -> Adapter:
    """A fresh adapter for `model`: `create(model, "lora", ["attn.q", "attn.v"], r=16)`; of several methods that learn
    together `create(model, "lora+prefix", lora={"r": 16, "targets": "attn.q"})`.

    `model`: a live model, or a pipeline of transformers that has one. `targets`: roles (`attn.q`), `all-linear`, ends
    of paths, globs, `re:` and `type:` patterns, one or several; None for where the method goes. `config`: the method's
    fields, and `overrides` those at places that a pattern matches. `seed`: of what is drawn. `children`: the adapters,
    by name, that a method is made of which weighs others: `create(model, "xlora", children={"law": a, "code": b})`.
    `also`: what is trained whole beside it: `head`, `norm`, `embed`, or paths and patterns of modules and parameters.
    `tied="untie"`: of a tied weight the use that was named alone. `name`: what it is called in messages, and on a
    model.

    Raises `UnknownMethod`, `BadConfig`, `TargetNotFound` for words that match nothing, with what there is, and
    `Unsupported` for a model that the method has no way on.
    """
    model = model_of(model)
    require_sound(model)
    made = _fresh(model, method, targets, overrides, seed, children, config).replace(name=name)
    made = with_whole(model, made, also, tied == "untie") if also else made
    return knowing(_apart(model, made, tied), model)


def _fresh(
    model: nn.Module,
    method: str,
    targets: Spec,
    overrides: Mapping[str, Mapping[str, Any]] | None,
    seed: int,
    children: Several | None,
    config: Mapping[str, Any],
) -> Adapter:
    if children is not None:
        from adaptr.composing import gather

        given = by_name(without_weights(children, f"`{method}` finds the weights of its parts itself"))
        parts = {called: opened(each.what, model) for called, each in given.items()}
        return gather.over(method, parts, model, config, seed)
    method, config = plugins.spelled(method, config)
    return plugins.method(method).create(model, targets, config, overrides, seed)


def attach(
    model: nn.Module, adapter: Weighted | Block, weight: float = 1.0, merged: bool = False, tied: Tied = None
) -> Handle:
    """Attach an adapter without gradients, at a strength; `detach()` of the result restores the model bit for bit.

    `model`: a live model, or a pipeline of transformers that has one. `adapter`: an adapter or where it is, alone or as
    a pair with its own weight, which `weight` multiplies.

    Several, as blocks say which row, token or share is whose: `attach(model, BatchSplit(a, None, b))`
    (`adaptr.host.blocks`).

    `merged`: write it into the model's own weights, in place: forwards then cost what the bare model's cost, and
    `state_dict()` is what `merge` writes for it. What was there is kept for `detach`, on the same device: as many bytes
    as the weights that change have. Merged adapters come off in any order; those that are merged later are merged anew.
    `tied`: where a weight is used in several places, all change ("both", of what is merged), or each use has a tensor
    of its own until it is detached ("untie"). Raises `NotMergeable`, `TiedWeights` and `Unsupported` where there is no
    weight to merge into.
    """
    from adaptr.host.tree import Block

    model = model_of(model)
    if isinstance(adapter, Block):
        from adaptr.runtime.arranged import arranged

        return arranged(model, adapter, weight, merged)
    given = single(adapter)
    found = opened(given.what, model)
    strength = weighting.number(weight, found.label) * weighting.number(given.weight, found.label)
    if merged:
        from adaptr.merging import live

        return live.attach(model, found, strength, tied)
    found = _apart(model, found, tied)
    handle: Handle = plugins.hooks(found.method).apply(model=model, adapter=found, weight=strength)
    return handle


def train(model: nn.Module, adapter: Given, tied: Literal["untie"] | None = None) -> Session:
    """Attach an adapter to `model` with gradients, everything else frozen. `parameters()` of the result are what an
    optimizer gets, and `adapted()` is the trained adapter. Raises what `attach` does, and `Unsupported` for a base that
    no gradient goes through.

    `tied="untie"`: what it replaces whole is trained in the place that it names, and not where that is used besides.
    """
    model = model_of(model)
    found = _apart(model, opened(adapter, model), tied)
    session: Session = plugins.hooks(found.method).train(model=model, adapter=found)
    return session


def _apart(model: nn.Module, adapter: Adapter, tied: Tied) -> Adapter:
    from adaptr.changes.agreement import require_word
    from adaptr.merging.untied import without

    require_word(tied)
    if tied == "both":
        raise UsageError(
            '`tied="both"` says what becomes of weights that an adapter is merged into', hint="say `merged=True` too"
        )
    return adapter if tied is None else without(model, adapter)
