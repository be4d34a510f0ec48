"""From adapters and a checkpoint to the list of tensors that change: everything that can be wrong is found here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from adaptr import plugins
from adaptr.adapter import MATRIX_KINDS, Adapter, Target
from adaptr.checkpoint.names import Names, Place, is_embedding
from adaptr.checkpoint.open import Checkpoint, Stored
from adaptr.errors import ContentMismatch, NotPossible, TargetNotFound, TiedWeights, Unsupported
from adaptr.format.io import TORCH_NAMES
from adaptr.view import View

if TYPE_CHECKING:
    from torch import Tensor

Tied = Literal["both", "untie"] | None
HEADS = ("lm_head.weight", "embed_out.weight")
FLOATS = {"F64", "F32", "F16", "BF16"}


@dataclass(frozen=True)
class Layer:
    """One adapter at one target, at a strength."""

    adapter: Adapter
    target: Target
    weight: float

    @property
    def method(self) -> Any:
        return plugins.method(self.adapter.method)

    def merge(self, base: View) -> View:
        hooks = plugins.hooks(self.adapter.method)
        merged: View = hooks.merge(adapter=self.adapter, target=self.target, base=base, weight=self.weight)
        return merged

    def unmerge(self, merged: View, kept: Mapping[str, Tensor]) -> View:
        hooks = plugins.hooks(self.adapter.method)
        below: View = hooks.unmerge(
            adapter=self.adapter, target=self.target, merged=merged, kept=kept, weight=self.weight
        )
        return below

    def keep(self, base: View, rows: slice) -> dict[str, Tensor]:
        method = self.method
        kept: dict[str, Tensor] = method.keep(
            base, self.adapter.at(self.target.path), method.config(self.target.config), rows
        )
        return kept


@dataclass(frozen=True)
class Span:
    """Rows of a stored tensor and the layers on them, bottom first."""

    rows: slice
    layers: tuple[Layer, ...]

    @property
    def target(self) -> Target:
        return self.layers[0].target


@dataclass(frozen=True)
class Change:
    """One tensor of the output that differs from the base.

    `stored`: the base's tensor whose bytes it starts from. `spans`: for weights and biases. `value`: for whole replaced
    parameters. `name` is not the stored one's where a tied weight is untied or a head is added.
    """

    name: str
    stored: Stored | None
    what: Literal["weight", "bias", "replaced", "copy"]
    spans: tuple[Span, ...] = ()
    value: Tensor | None = None

    @property
    def added(self) -> bool:
        return self.stored is None or self.name != self.stored.name


@dataclass(frozen=True)
class Plan:
    """All changes to a checkpoint. `untied`: the output no longer ties its embeddings."""

    changes: Mapping[str, Change]
    untied: bool = False
    targets: int = 0


def plan(checkpoint: Checkpoint, stack: Sequence[tuple[Adapter, float]], tied: Tied = None, check: bool = True) -> Plan:
    """The changes that `stack` makes to `checkpoint`. Nothing is read but headers and samples, nothing is written.

    `check`: the adapters must have been trained on these very weights, if they say on which.

    Raises `TargetNotFound`, `TargetMismatch`, `ContentMismatch`, `TiedWeights`, `NotMergeable`, `Unsupported`.
    """
    names = Names(checkpoint)
    spans: dict[str, dict[tuple[int, int], list[Layer]]] = {}
    biases: dict[str, list[Layer]] = {}
    changes: dict[str, Change] = {}
    targets = 0
    for whole, weight in stack:
        for adapter in parts(whole):
            targets += len(adapter.targets)
            if check:
                _check_content(checkpoint, names, adapter)
            for target in adapter.targets.values():
                _add(names, Layer(adapter, target, weight), spans, biases, tied)
        _add_replaced(names, whole, weight, changes)
    stored = checkpoint.tensors
    for name, ranges in spans.items():
        _refuse_overlap(name, ranges)
        found = tuple(Span(slice(*r), tuple(layers)) for r, layers in sorted(ranges.items()))
        changes[name] = Change(name, stored[name], "weight", found)
    for name, layers in biases.items():
        rows = slice(0, stored[name].entry.shape[0])
        changes[name] = Change(name, stored[name], "bias", (Span(rows, tuple(layers)),))
    if not changes:
        raise TargetNotFound("the adapters have no targets: merging would change nothing")
    _refuse_dtypes(changes)
    changes, untied = _ties(checkpoint, changes, tied)
    return Plan(dict(sorted(changes.items())), untied, targets)


def parts(adapter: Adapter) -> list[Adapter]:
    """The adapters that a composite is made of, or the adapter itself."""
    return [adapter.part(name) for name in adapter.parts] if adapter.parts else [adapter]


def _add(
    names: Names,
    layer: Layer,
    spans: dict[str, dict[tuple[int, int], list[Layer]]],
    biases: dict[str, list[Layer]],
    tied: Tied,
) -> None:
    probe = _probe(layer)
    if layer.target.kind in MATRIX_KINDS and probe.rows is not _no_rows:
        place = _weight_place(names, layer.target, tied)
        ranges = spans.setdefault(place.stored.name, {})
        ranges.setdefault((place.rows.start, place.rows.stop), []).append(layer)
    bias = names.bias(layer.target) if isinstance(layer.target.dims.get("out"), int) else None
    if bias is not None and _moves_bias(layer):
        biases.setdefault(bias.name, []).append(layer)
    elif bias is None and probe.bias is not None:
        raise Unsupported(
            f"`{layer.adapter.label}` adds a bias to `{layer.target.path}`, which has none in this base; there is "
            "no place "
            "for it in the merged checkpoint, so keep the adapter attached"
        )


def _no_rows(s: slice) -> Tensor:
    raise AssertionError("the weight of a probe is never read")


def _probe(layer: Layer) -> View:
    """What the method makes of a layer, unread: raises `NotMergeable` early, shows whether the weight is touched."""
    return layer.merge(View(lambda: None, _no_rows))


def _moves_bias(layer: Layer) -> bool:
    """Whether the method adds to the bias, or scales it: asked with a bias of ones."""
    import torch

    ones = torch.ones(layer.target.shape[0])
    moved = layer.merge(View(lambda: None, _no_rows, lambda: ones)).bias
    return moved is not None and not torch.equal(moved, ones)


def _weight_place(names: Names, target: Target, tied: Tied) -> Place:
    try:
        return names.weight(target)
    except TargetNotFound:
        embedding = tied_embedding(names.checkpoint) if f"{target.path}.weight" in HEADS else None
        if embedding is None:
            raise
        if tied is None:
            raise TiedWeights(_tied_message(target.path, embedding.name)) from None
        return Place(embedding, slice(0, embedding.entry.shape[0]))


def _add_replaced(names: Names, adapter: Adapter, weight: float, changes: dict[str, Change]) -> None:
    for path, value in adapter.replaced.items():
        if weight != 1.0:
            raise NotPossible(f"`{path}` is replaced as a whole by `{adapter.label}`, which has no strength {weight:g}")
        stored = names.find(path)
        name = stored.name if stored else path
        if name in changes:
            raise NotPossible(f"two adapters replace `{path}`; merge one of them, or drop the parameter from the other")
        changes[name] = Change(name, stored, "replaced", value=value)


def _refuse_overlap(name: str, ranges: Mapping[tuple[int, int], object]) -> None:
    end = -1
    for start, stop in sorted(ranges):
        if start < end:
            raise Unsupported(
                f"adapters meet `{name}` both as a whole and as one of its fused parts; merge them in turn"
            )
        end = stop


def _refuse_dtypes(changes: Mapping[str, Change]) -> None:
    for change in changes.values():
        if change.stored is not None and change.stored.entry.dtype not in FLOATS:
            raise Unsupported(
                f"`{change.name}` is stored as {change.stored.entry.dtype}; merging into packed or 8-bit weights would "
                "requantise them, so merge into the unquantised base"
            )


# ---------------------------------------------------------------- tied weights


def tied_embedding(checkpoint: Checkpoint) -> Stored | None:
    """The input embedding, if the output head shares it."""
    says = checkpoint.config.get("tie_word_embeddings")
    has_head = any(head in checkpoint.tensors for head in HEADS)
    architecture = str((checkpoint.config.get("architectures") or [""])[0])
    generates = architecture.endswith(("LMHeadModel", "ForCausalLM", "ForConditionalGeneration", "ForMaskedLM"))
    if says is False or (has_head and not says) or not generates:
        return None
    return next((t for name, t in sorted(checkpoint.tensors.items()) if is_embedding(name)), None)


def _ties(checkpoint: Checkpoint, changes: dict[str, Change], tied: Tied) -> tuple[dict[str, Change], bool]:
    """Settle what happens to an embedding that the output head shares."""
    embedding = tied_embedding(checkpoint)
    new_head = next((head for head in HEADS if head in changes and changes[head].stored is None), None)
    if embedding is None or (embedding.name not in changes and new_head is None):
        return changes, False
    if tied is None:
        raise TiedWeights(_tied_message(new_head or embedding.name, embedding.name if new_head else "the output head"))
    if tied == "both":
        return _both(embedding, changes, new_head), False
    return _untied(checkpoint, embedding, changes, new_head), True


def _both(embedding: Stored, changes: dict[str, Change], new_head: str | None) -> dict[str, Change]:
    if new_head is None:
        return changes
    if embedding.name in changes:
        raise NotPossible(
            f"`{new_head}` and `{embedding.name}` are one tensor, and both are changed; say `--tied untie`"
        )
    head = changes.pop(new_head)
    return {**changes, embedding.name: replace(head, name=embedding.name, stored=embedding)}


def _untied(
    checkpoint: Checkpoint, embedding: Stored, changes: dict[str, Change], new_head: str | None
) -> dict[str, Change]:
    """Give the head a tensor of its own: the old embedding, with the layers that were meant for the head."""
    if not checkpoint.root.is_dir() or HEADS[0] in checkpoint.tensors:
        raise Unsupported(f"`{embedding.name}` can't be untied here: the checkpoint has no place for a head of its own")
    if new_head is not None:
        return changes
    change = changes.pop(embedding.name)
    if change.what == "replaced":
        return {**changes, embedding.name: change, HEADS[0]: Change(HEADS[0], embedding, "copy")}
    (span,) = change.spans
    inputs = tuple(layer for layer in span.layers if layer.target.kind == "embedding")
    outputs = tuple(layer for layer in span.layers if layer.target.kind != "embedding")
    if inputs:
        changes[embedding.name] = replace(change, spans=(replace(span, layers=inputs),))
    spans = (replace(span, layers=outputs),) if outputs else ()
    changes[HEADS[0]] = Change(HEADS[0], embedding, "weight" if outputs else "copy", spans)
    return changes


def _tied_message(changed: str, other: str) -> str:
    return (
        f"`{changed}` is tied to {other}: the model uses one tensor twice, an attached adapter acts on one use, and "
        "merging "
        "would change both. Say `--tied both` to change both, or `--tied untie` to give the output head a tensor "
        "of its own"
    )


# ---------------------------------------------------------------- is it the base the adapter was trained on?


def _check_content(checkpoint: Checkpoint, names: Names, adapter: Adapter) -> None:
    wanted = adapter.base.content
    found = content_of(names, adapter.targets) if wanted and not adapter.base.quantization else ""
    if found and found != wanted:
        raise ContentMismatch(
            f"the weights of `{checkpoint.root.name}` at the targets of `{adapter.label}` are not those it was trained "
            f"on ({adapter.base.id or 'unnamed base'}); use the right revision of the base"
        )


def content_of(names: Names, targets: Mapping[str, Target]) -> str:
    """The same digest over samples as of a live model (`adaptr.host.identity`); "" where there is nothing to read."""
    digest, seen = hashlib.sha256(), False
    for path in sorted(targets):
        place = _place_of_weight(names, targets[path])
        if place is not None and place.stored.entry.dtype in FLOATS:
            digest.update(path.encode() + b"\0" + _sample(place))
            seen = True
    return "sha256:" + digest.hexdigest() if seen else ""


def _place_of_weight(names: Names, target: Target) -> Place | None:
    """Where the weight of a target's module is, for modules that have one."""
    if target.kind in MATRIX_KINDS:
        return _weight_place(names, target, "both")
    stored = names.find(f"{target.path}.weight")
    return Place(stored, slice(0, stored.entry.shape[0])) if stored is not None else None


def _sample(place: Place) -> bytes:
    import torch

    from adaptr.host.identity import SAMPLES, value_bytes

    entry, dtype = place.stored.entry, getattr(torch, TORCH_NAMES[place.stored.entry.dtype])
    per_row = entry.numel // entry.shape[0]
    first, numel = place.rows.start * per_row, (place.rows.stop - place.rows.start) * per_row
    raw = bytearray()
    with open(place.stored.shard.path, "rb") as file:
        for i in range(0, numel, max(numel // SAMPLES, 1))[:SAMPLES]:
            raw += os.pread(file.fileno(), dtype.itemsize, place.stored.offset + (first + i) * dtype.itemsize)
    return value_bytes(torch.frombuffer(raw, dtype=dtype))
