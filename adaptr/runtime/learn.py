"""Training a gate on examples: a plain loop through the `train` hook, measured on examples that were held out."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.composing import gather
from adaptr.composing.examples import batch, encoded, examples
from adaptr.contract.capabilities import GATE
from adaptr.errors import UsageError, phrases
from adaptr.files.meter import Progress
from adaptr.format import digest, write
from adaptr.models.belonging import require_named
from adaptr.models.load import loaded
from adaptr.report import Report
from adaptr.sources.given import Several, by_name, opened, without_weights
from adaptr.sources.open import placed, reads
from adaptr.sources.resolve import Place, resolve

if TYPE_CHECKING:
    from torch import Tensor, nn

Rows = list[tuple[list[int], list[int]]]


@dataclass(frozen=True)
class LearnReport(Report):
    """What was learnt. `losses`: mean loss of the answers' tokens in the `held_out` examples: of the base, of each
    expert alone, of the gate before and after training.
    """

    out: str
    method: str
    experts: Mapping[str, str]
    parameters: int
    examples: int
    held_out: int
    steps: int
    losses: Mapping[str, float]
    bytes: int
    digest: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def learn(
    base: Place,
    experts: Several,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    method: str | None = None,
    steps: int = 100,
    size: int = 4,
    rate: float | None = None,
    held_out: float = 0.1,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    any_base: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> LearnReport:
    """Train a gate over `experts` on the examples in `data`, in batches of `size`, and write it to `out`.

    `method`, `config`: a gate that learns, None for the one that says that it is taken so, and its fields. `steps`: of
    the optimizer, at `rate`, None for the method's own. `held_out`: the share of the examples that is not learnt from,
    drawn with `seed`, on which it is measured.

    The same call gives the same bytes on one machine. Raises what `create` raises for experts that don't fit,
    `UsageError` for a method that is no gate that learns, a `DataError` for examples that are none, and `WrongBase` for
    an expert that names another base and says nothing else of it, unless `any_base`.
    """
    import torch

    started = time.perf_counter()
    method = plugins.default(GATE) if method is None else method
    if not _learns(method):
        raise phrases.unknown(
            UsageError,
            "there is no gate that learns called",
            method,
            list(filter(_learns, plugins.names())),
            "those that learn",
        )
    given = by_name(without_weights(experts, "a gate finds the weights of its experts itself"))
    place = placed(out, force, reads(base, *(each.what for each in given.values()), data))
    base = resolve(base).path
    named = {name: opened(each.what, base) for name, each in given.items()}
    require_named(base, list(named.values()), any_base)
    rows = examples(Path(data))
    model, tokenizer = loaded(base)
    gate = gather.over(method, named, model, config, seed, any_base)
    kept, held = _split([encoded(tokenizer, *row) for row in rows], held_out, seed)
    losses = {"base": _loss(model, held, size)}
    losses |= {f"{name} alone": _attached_loss(model, child, held, size) for name, child in named.items()}
    losses["gate, fresh"] = _attached_loss(model, gate, held, size)
    rate = plugins.method(method).rate if rate is None else rate
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trained, count = _trained(model, gate, kept, steps, size, rate, progress)
    losses["gate, trained"] = _attached_loss(model, trained, held, size)
    settings = {"steps": steps, "batch": size, "rate": rate, "seed": seed, "held_out": held_out}
    libraries = {name: version(name) for name in ("torch", "transformers")}
    training = {"data": digest.of_file(data), "optimiser": "AdamW", "libraries": libraries, **settings}
    file = write(trained.replace(training=training, name=Path(out).name.split(".")[0]), place, force)
    return LearnReport(
        out=str(file),
        method=method,
        experts={name: part.digest for name, part in trained.parts.items()},
        parameters=count,
        examples=len(kept),
        held_out=len(held),
        steps=steps,
        losses=losses,
        bytes=file.stat().st_size,
        digest=digest.of_file(file),
        seconds=time.perf_counter() - started,
    )


def _learns(method: str) -> bool:
    can = plugins.method(method).can
    return can.gates and can.learns


def _split(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """(to learn from, held out), drawn with `seed`."""
    import torch

    if not 0 < share < 1:
        raise UsageError("the share held out", got=f"{share:g}", want="more than 0 and less than 1")
    count = max(1, round(share * len(rows)))
    if count >= len(rows):
        raise UsageError(
            f"{len(rows)} examples are too few to hold out {share:g} of them and learn from the rest",
            hint="give more examples, or hold out less",
        )
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return [rows[i] for i in sorted(order[count:])], [rows[i] for i in sorted(order[:count])]


def _trained(
    model: nn.Module, gate: Adapter, rows: Rows, steps: int, size: int, rate: float, progress: Progress | None
) -> tuple[Adapter, int]:
    """The gate after `steps` steps of AdamW, and how many numbers learnt."""
    import torch

    with plugins.hooks(gate.method).train(model=model, adapter=gate) as session:
        parameters = list(session.parameters())
        optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
        order: list[int] = []
        for step in range(steps):
            if len(order) < size:
                order += torch.randperm(len(rows)).tolist()
            some, order = [rows[i] for i in order[:size]], order[size:]
            loss = session.objective(functools.partial(_run, model, batch(some)))
            loss.backward()
            optimiser.step()
            session.after_step()
            optimiser.zero_grad()
            if progress is not None:
                progress(step + 1, steps, f"loss {loss.item():.3f}")
        return session.finish(), sum(p.numel() for p in parameters)


def _run(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Tensor, Any]:
    output = model(**inputs, use_cache=False)
    return output.loss, output


def _attached_loss(model: nn.Module, adapter: Adapter, rows: Rows, size: int) -> float:
    with plugins.hooks(adapter.method).apply(model=model, adapter=adapter, weight=1.0):
        return _loss(model, rows, size)


def _loss(model: nn.Module, rows: Rows, size: int) -> float:
    """The mean over all tokens that count."""
    import torch

    total, tokens = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            some = batch(rows[start : start + size])
            count = int((some["labels"][:, 1:] >= 0).sum())
            total += float(model(**some, use_cache=False).loss) * count
            tokens += count
    return total / max(tokens, 1)
