"""What a gate does with a text: the weights of its experts, for each token and layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.errors import UsageError
from adaptr.models.belonging import require_named
from adaptr.models.load import loaded
from adaptr.report import Report
from adaptr.sites.mixture import Mixed
from adaptr.sources.given import Given, label, one, opened
from adaptr.sources.resolve import Place, resolve

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.host import Handle


@dataclass(frozen=True)
class Scalings(Report):
    """`values`: for each of `sites`, for each of `tokens`, the weight of each of `experts`, the gate's own scale in it.
    An expert has no effect at a site where it has no delta: those are in `absent`, by site.
    """

    gate: str
    method: str
    prompt: str
    tokens: tuple[str, ...]
    experts: tuple[str, ...]
    sites: tuple[str, ...]
    values: tuple[tuple[tuple[float, ...], ...], ...]
    absent: tuple[tuple[str, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def over_sites(self) -> list[list[float]]:
        """For each token, the mean weight of each expert over the layers."""
        columns = zip(*self.values, strict=True)
        return [[sum(w) / len(w) for w in zip(*column, strict=True)] for column in columns]


@contextmanager
def recorded(gate: Handle) -> Iterator[dict[str, list[Tensor]]]:
    """While it is entered, the weights of an attached gate: site path to one tensor (batch, tokens, n), or (n), for
    each forward.
    """
    site = next((state for state in gate.states.values() if isinstance(state, Mixed)), None)
    if site is None:
        raise UsageError(
            f"`{gate.adapter.label}` is `{gate.adapter.method}`, no gate: it has no weights to record",
            hint="give an adapter that weighs others",
        )
    log: dict[str, list[Tensor]] = {}
    site.signal.log = log
    try:
        yield log
    finally:
        site.signal.log = None


def scalings(gate: Given, base: Place, prompt: str, any_base: bool = False) -> Scalings:
    """The weights that the gate at `gate` gives to each token of `prompt`.

    Raises `UsageError` for what is no gate, `WrongBase` for one that names another base and says nothing else of it,
    unless `any_base`.
    """
    import torch

    base, what = resolve(base).path, one(gate)
    adapter = opened(what, base)
    require_named(base, [adapter], any_base)
    if not plugins.method(adapter.method).can.gates:
        raise UsageError(
            f"`{label(what)}` is `{adapter.method}`, no gate: it has no weights to show",
            hint="give an adapter that weighs others, as `adaptr gate` makes",
        )
    model, tokenizer = loaded(base)
    given = tokenizer(prompt, return_tensors="pt")
    ids = given["input_ids"]
    if not ids.numel():
        raise UsageError("the prompt has no tokens", hint="give a text that is not empty")
    with (
        plugins.hooks(adapter.method).apply(model=model, adapter=adapter, weight=1.0) as handle,
        recorded(handle) as log,
        torch.inference_mode(),
    ):
        model(**given)
    experts = tuple(adapter.config["experts"])
    sites = tuple(path for path, _ in model.named_modules() if path in log)
    return Scalings(
        gate=label(what),
        method=adapter.method,
        prompt=prompt,
        tokens=tuple(tokenizer.decode([i]) for i in ids[0].tolist()),
        experts=experts,
        sites=sites,
        values=tuple(_rows(log[path][0], ids.shape[1]) for path in sites),
        absent=tuple(tuple(e for e in experts if path not in adapter.parts[e].targets) for path in sites),
    )


def _rows(weights: Tensor, tokens: int) -> tuple[tuple[float, ...], ...]:
    """(tokens, n) as numbers, of one row."""
    per_token = weights[0] if weights.ndim > 1 else weights.expand(tokens, -1)
    return tuple(tuple(row) for row in per_token.float().tolist())
