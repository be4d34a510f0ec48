"""The commands as functions."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import plugins, precision, weighting
from adaptr.adapter import Adapter
from adaptr.errors import UsageError, WeightsBeside, shown

if TYPE_CHECKING:
    from torch import dtype as Dtype
    from torch import nn

    from adaptr.artifacts.handling import Artifact, Sent
    from adaptr.artifacts.history import History
    from adaptr.artifacts.inspect import Inspection
    from adaptr.bulk.change import Tied
    from adaptr.composing.beside import Choice
    from adaptr.composing.compose import Composition
    from adaptr.converting.convert import Report
    from adaptr.converting.serving import Served
    from adaptr.diffing.report import DiffReport
    from adaptr.expression import Expression
    from adaptr.extracting.extract import ExtractReport
    from adaptr.extracting.job import Biases, Embeddings, Rest
    from adaptr.host import Handle, Session
    from adaptr.merging.merge import MergeReport
    from adaptr.merging.unmerge import UnmergeReport
    from adaptr.merging.verify import VerifyReport
    from adaptr.meter import Progress
    from adaptr.results.ranks import RankReport
    from adaptr.targets import Spec

#: A path, a reference such as `oci://host/name:tag` or `hf://org/name`, or a name in the local store.
Source = str | os.PathLike[str]
#: An adapter or where it is, alone or with a weight.
Weighted = Source | Adapter | tuple[Source | Adapter, Any]


def _local(source: Source) -> Path:
    """The path of a source: its own, or where the files are of a reference or a name in the store."""
    from adaptr.registry.local import path_of

    return path_of(source)


def _base(base: nn.Module | Source | None) -> Any:
    """A base as operations take it: a live model, a path or None."""
    return _local(base) if isinstance(base, str | os.PathLike) else base


def load(source: Source, base: nn.Module | Source | None = None) -> Adapter:
    """The adapter at `source`: an adaptr file, a folder that holds one, or a file or folder of another tool.

    `base`, a folder with a `config.json` or a live model, says what a foreign file leaves open: which modules a prefix
    belongs to, how expert stacks and fused layers are stored. Tensors are read when used. Weights that lie beside it
    are not read: a `UserWarning` names them.
    """
    from adaptr.sources.open import open_adapter

    return open_adapter(_local(source), _base(base)).adapter


def inspect(source: Source, finite: bool = False, base: nn.Module | Source | None = None) -> Inspection:
    """What an adapter is, from its header alone; `finite` also looks for NaN and infinity in its values. `base`: as for
    `load`.
    """
    from adaptr.artifacts import inspect as inspection

    found = inspection.inspect(_local(source), finite, _base(base))
    return dataclasses.replace(found, source=os.fspath(source))  # as it was named, not where the store has it


def convert(
    source: Source,
    out: Source,
    to: str = "adaptr",
    lossy: bool = False,
    force: bool = False,
    base: nn.Module | Source | None = None,
) -> Report:
    """Write the adapter at `source` to `out` in the format `to`, and report what was kept, renamed and lost."""
    from adaptr.converting import convert as conversion

    return conversion.convert(_local(source), Path(out), to, lossy, force, _base(base))


def convert_method(
    source: Source,
    out: Source,
    method: str = "lora",
    to: str = "adaptr",
    *,
    rank: int | None = None,
    energy: float | None = None,
    lossy: bool = False,
    force: bool = False,
    base: nn.Module | Source | None = None,
    dtype: str | Dtype | None = None,
) -> RankReport:
    """Write the adapter at `source` as another method, exactly or at a rank or energy; see `adaptr.converting`."""
    from adaptr.converting.resize import reexpress

    return reexpress(
        _local(source), Path(out), method, to, rank, energy, lossy, force, _base(base), precision.called(dtype)
    )


def serve(
    source: Source,
    out: Source,
    server: str,
    *,
    rank: int | None = None,
    force: bool = False,
    base: nn.Module | Source | None = None,
    dtype: str | Dtype | None = None,
) -> Served:
    """Write the adapter at `source` as the PEFT folder that a server loads; see `adaptr.converting.serving`."""
    from adaptr.converting import serving

    return serving.serve(_local(source), Path(out), server, rank, force, _base(base), precision.called(dtype))


def resize(
    source: Source,
    out: Source,
    *,
    rank: int | None = None,
    energy: float | None = None,
    force: bool = False,
    base: nn.Module | Source | None = None,
    dtype: str | Dtype | None = None,
) -> RankReport:
    """Write the adapter at `source` as LoRA of a lower rank, with the error measured; see `adaptr.converting`."""
    from adaptr.converting.resize import resize

    return resize(_local(source), Path(out), rank, energy, force, _base(base), precision.called(dtype))


def extract(
    base: Source,
    tuned: Source,
    out: Source,
    *,
    rank: int | None = None,
    energy: float | None = None,
    embeddings: Embeddings = "low-rank",
    biases: Biases = "delta",
    rest: Rest = "replace",
    dtype: str | Dtype | None = None,
    base_name: str = "",
    force: bool = False,
    progress: Progress | None = None,
) -> ExtractReport:
    """Write the LoRA that turns the checkpoint `base` into `tuned`; see `adaptr.extracting.extract`."""
    from adaptr.extracting.extract import extract

    return extract(
        _local(base),
        _local(tuned),
        Path(out),
        rank=rank,
        energy=energy,
        embeddings=embeddings,
        biases=biases,
        rest=rest,
        dtype=precision.called(dtype),
        base_name=base_name,
        force=force,
        progress=progress,
    )


def diff(
    a: Source,
    b: Source,
    base: Source | None = None,
    *,
    header: bool = False,
    intruders: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> DiffReport:
    """How two adapters, or an adapter and a checkpoint, or two checkpoints differ; see `adaptr.diffing.diff`."""
    from adaptr.diffing.diff import diff

    return diff(
        _local(a),
        _local(b),
        None if base is None else _local(base),
        header=header,
        intruders=intruders,
        seed=seed,
        progress=progress,
    )


def create(
    model: nn.Module,
    method: str = "lora",
    targets: Spec = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    name: str = "",
    children: Mapping[str, Adapter] | None = None,
    **config: Any,
) -> Adapter:
    """A fresh adapter for `model`: `create(model, "lora", ["attn.q", "attn.v"], r=16)`.

    `children`: the adapters, by name, that a method is made of which weighs others: `create(model, "xlora",
    children={"law": a, "code": b})`.
    """
    if children is not None:
        from adaptr.composing import gather

        return gather.over(method, children, model, config, seed).replace(name=name)
    made = plugins.method(method).create(model, targets, config, overrides, seed)
    return made.replace(name=name)


def attach(model: nn.Module, adapter: Adapter | Source, weight: float = 1.0) -> Handle:
    """Attach an adapter without gradients; `detach()` of the result restores the model bit for bit."""
    given = _given(adapter, model)
    strength = weighting.number(weight, given.label)
    handle: Handle = plugins.hooks(given.method).apply(model=model, adapter=given, weight=strength)
    return handle


def train(model: nn.Module, adapter: Adapter | Source) -> Session:
    """Attach an adapter with gradients, everything else frozen. `adapted()` of the result is the trained adapter."""
    given = _given(adapter, model)
    session: Session = plugins.hooks(given.method).train(model=model, adapter=given)
    return session


def _given(one: Any, base: nn.Module | Path | None, tell: bool = True) -> Adapter:
    """An adapter that is whole for `base`, read where `one` says where it is. Raises `UsageError` for anything else.

    `tell`: warn of other weights in its folder.
    """
    if isinstance(one, Adapter):
        _whole(base, one)
        return one
    if isinstance(one, str | os.PathLike):
        from adaptr.sources.open import open_adapter

        return open_adapter(_local(one), base, tell).adapter
    raise UsageError(f"wanted an adapter, or where one is, not `{shown(repr(one))}`")


def _whole(base: nn.Module | Path | None, adapter: Adapter) -> None:
    """Raises `TensorAbsent` where an adapter lacks what the file it came from promises for this base."""
    if adapter.foreign:
        from adaptr import foreign

        foreign.require(adapter, base)


def quantize(adapter: Adapter, scheme: str) -> Adapter:
    """The adapter stored in `scheme`: fp16, bf16 or int8."""
    made: Adapter = plugins.hooks(adapter.method).quantize(adapter=adapter, scheme=scheme)
    return made


def save(adapter: Adapter | Expression, path: str | os.PathLike[str], force: bool = False) -> None:
    """Write an adaptr file; of an expression such as `0.7 * a + 0.3 * b`, its `linear` composition. Raises
    `OutputExists` unless `force`, and for the file that the tensors are still read from.
    """
    from adaptr.files import require_file
    from adaptr.format import write
    from adaptr.sources.open import reads

    parts = [adapter] if isinstance(adapter, Adapter) else [part for part, _ in adapter.terms]
    require_file(Path(path), force, reads(*(part for part in parts if not isinstance(part.tensors, dict))))
    write(adapter if isinstance(adapter, Adapter) else adapter.adapter(), path, force)


def compose(
    adapters: Weighted | Sequence[Weighted],
    strategy: str = "linear",
    out: Source | None = None,
    *,
    rank: int | None = None,
    energy: float | None = None,
    normalize: bool | None = None,
    seed: int = 0,
    replaced: Choice = "refuse",
    base: nn.Module | Source | None = None,
    any_base: bool = False,
    name: str = "",
    dtype: str | Dtype | None = None,
    force: bool = False,
    **config: Any,
) -> Composition:
    """One adapter of several: `compose([("style", 0.7), ("tone", 0.3)], "ties", density=0.2)`; or a recipe file.

    A weight is a number, a list of numbers from the first layer to the last, or either by pattern of the path.
    `config`: the strategy's fields. `rank`, `energy`: what the result is cut to. `dtype`: what it is stored in, without
    it the wider of fp32 and the inputs. `out`: where to write it. The result has the adapter and a report with the
    errors, measured on what is stored; see `adaptr.composing.recipe` for the other options.
    """
    from adaptr.composing import compose as composition
    from adaptr.composing import recipe_file
    from adaptr.composing.recipe import Input, Recipe
    from adaptr.sources.open import placed, reads

    if isinstance(adapters, str | os.PathLike):
        recipe = recipe_file.read(_local(adapters))
    else:
        inputs = tuple(Input(a if isinstance(a, Adapter) else _local(a), w) for a, w in _pairs(adapters))
        options: dict[str, Any] = {"rank": rank, "energy": energy, "normalize": normalize, "seed": seed, "name": name}
        options |= {"replaced": replaced, "base": _base(base), "any_base": any_base, "dtype": precision.called(dtype)}
        recipe = Recipe(inputs, strategy, config, **options)
    if out is None:
        return composition.compose(recipe)
    named = [adapters] if isinstance(adapters, str | os.PathLike) else []
    sources = [*named, *(one.source for one in recipe.inputs), recipe.base, recipe.config.get("data")]
    file = placed(Path(out), force, reads(*sources))
    return composition.compose(recipe, file.parent).saved(file, force)


def merge(
    base: Source,
    adapters: Weighted | Sequence[Weighted],
    out: Source,
    *,
    force: bool = False,
    tied: Tied = None,
    receipt: bool = True,
    any_base: bool = False,
    ignore_beside: bool = False,
    progress: Progress | None = None,
) -> MergeReport:
    """Merge adapters into the checkpoint `base`, written to the folder `out`; see `adaptr.merging.merge`.

    `adapters`: one, or several: sources or adapters, alone or with a weight: `["style", ("tone.safetensors", 0.5)]`.
    `tied`: what happens to tied weights that change, "both" or "untie". `receipt`: keep what `unmerge` needs.
    `any_base`: go on although an adapter names another base.
    `ignore_beside`: merge an adapter without the other weights in its folder, which raise `WeightsBeside` else.
    """
    from adaptr.merging.merge import merge

    folder = _local(base)
    stack = _stack(adapters, folder)
    left = _left_out(stack, ignore_beside)
    options: dict[str, Any] = {"force": force, "tied": tied, "exact": receipt, "any_base": any_base}
    report = merge(folder, stack, Path(out), progress=progress, **options)
    return dataclasses.replace(report, notes=[*report.notes, *left])


def _left_out(stack: Sequence[tuple[Adapter, float]], ignore: bool) -> list[str]:
    """What lies beside the adapters of a stack. Raises `WeightsBeside` for anything unless it is to be ignored."""
    from adaptr.sources.open import left_out

    found = [said for adapter, _ in stack if (said := left_out(adapter))]
    if found and not ignore:
        raise WeightsBeside(
            f"{found[0]}; they were trained with it, and without them the merged model is another: put them where they "
            "belong, or say `--ignore-beside`"
        )
    return [f"{said}; they are not merged" for said in found]


def unmerge(merged: Source, out: Source, *, force: bool = False, progress: Progress | None = None) -> UnmergeReport:
    """Take the adapters out of a merged checkpoint again, bit for bit; see `adaptr.merging.unmerge`."""
    from adaptr.merging.unmerge import unmerge

    return unmerge(_local(merged), Path(out), force=force, progress=progress)


def verify(
    merged: Source,
    base: Source,
    adapters: Weighted | Sequence[Weighted],
    *,
    tied: Tied = None,
    any_base: bool = False,
    progress: Progress | None = None,
) -> VerifyReport:
    """Prove that `merged` is `base` with `adapters` merged in; see `adaptr.merging.verify`."""
    from adaptr.merging.verify import verify

    folder = _local(base)
    return verify(_local(merged), folder, _stack(adapters, folder), tied=tied, any_base=any_base, progress=progress)


def _stack(adapters: Weighted | Sequence[Weighted], base: Path) -> list[tuple[Adapter, float]]:
    """Adapters with their weights, loaded where they are sources. Raises `UsageError` for none."""
    folder = base if base.is_dir() else None
    read = [(_given(one, folder, tell=False), weight) for one, weight in _pairs(adapters)]
    if not read:
        raise UsageError("no adapter was given")
    return [(adapter, weighting.number(weight, adapter.label)) for adapter, weight in read]


def _pairs(adapters: Any) -> list[tuple[Any, Any]]:
    """Adapters or sources with their weights, of one or of several."""
    if isinstance(adapters, Adapter | str | os.PathLike) or not isinstance(adapters, Iterable):
        return [(adapters, 1.0)]
    if isinstance(adapters, tuple) and len(adapters) == 2 and not _place(adapters[1]):
        return [adapters]
    return [one if isinstance(one, tuple) else (one, 1.0) for one in adapters]


def _place(one: Any) -> bool:
    """Whether it stands where an adapter does, and not where a weight or a pair does."""
    return isinstance(one, Adapter | str | os.PathLike | tuple)


def log(source: Source) -> History:
    """The lineage of an adapter or a merged checkpoint, followed by digest; see `adaptr.artifacts.history`."""
    from adaptr.artifacts.history import history

    return history(_local(source))


def pull(
    reference: str,
    out: Source | None = None,
    to: str = "as-is",
    *,
    lock: bool = False,
    frozen: bool = False,
    accept_change: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Pull an artifact into the local store, verified, and write its files to `out`; see `adaptr.artifacts.handling`.

    `to`: "adaptr" or "peft" to write it in that format. `lock`: pin it in `adaptr.lock`; `frozen`: refuse what is not
    pinned; `accept_change`: take what a moved reference names now.
    """
    from adaptr.artifacts.handling import pull

    place = None if out is None else Path(out)
    return pull(
        reference, place, to, lock=lock, frozen=frozen, accept_change=accept_change, force=force, progress=progress
    )


def push(
    source: Source, reference: str, to: str = "as-is", *, force: bool = False, progress: Progress | None = None
) -> Sent:
    """Publish an adapter or a base model at `reference`; see `adaptr.artifacts.handling`."""
    from adaptr.artifacts.handling import push

    return push(os.fspath(source), reference, to, force=force, progress=progress)
