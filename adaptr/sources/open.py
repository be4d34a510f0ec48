"""Open an adapter in whatever format it is, and say where one may be written."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr import foreign
from adaptr.adapter import Adapter
from adaptr.adapter.expression import Expression
from adaptr.errors import InputError, OutputExists, WeightsBeside, WeightsIgnored
from adaptr.errors.called import called
from adaptr.files import require_file, weights_named
from adaptr.foreign import beside
from adaptr.foreign.seen import CONFIG, is_adaptr
from adaptr.foreign.supplied import NOTHING, Supplied
from adaptr.sources.resolve import Source, resolve

if TYPE_CHECKING:
    from torch import nn

NAME = "adapter.adaptr.safetensors"


#: The format of what is no file.
MEMORY = "memory"


@dataclass(frozen=True)
class Opened:
    """An adapter, the name of its format, and the file with its tensors, None where it was given as a value.

    `given`: what people called it. `beside`: files that hold other weights. `supplied`: what they said of it.
    """

    adapter: Adapter
    format: str
    file: Path | None
    given: str
    beside: tuple[str, ...] = ()
    supplied: Supplied = NOTHING

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it lies in."""
        return () if self.file is None else foreign.files(self.format, self.file)

    @property
    def digest(self) -> str:
        """Of its file, or of all of them, "" where it was given as a value. Reads them."""
        return "" if self.file is None else foreign.digest(self.format, self.file)


def open_adapter(
    source: Path | Source | Adapter | Expression, base: nn.Module | Path | None = None, tell: bool = True
) -> Opened:
    """The adapter at `source`: an adaptr file, a folder with one, or anything that a format plugin reads; or a value.

    `base`: a folder with a `config.json` or a live model, for what a file does not say. Raises `InputError` where there
    is nothing or a folder holds several adapters, a `ForeignError` that names what is there if it can't be read.
    `tell`: warn of weights that lie beside it (`WeightsIgnored`), for who does not say so otherwise.
    """
    if isinstance(source, Expression):
        source = (source if source.base is not None else Expression(source.terms, base)).adapter()
    if isinstance(source, Adapter):
        if source.foreign:
            foreign.require(source, base)
        return Opened(source, MEMORY, None, source.label)
    found = _opened(source if isinstance(source, Source) else Source(str(source), source), base)
    if found.beside and tell and found.file is not None:
        said = called(beside.said(found.file, found.beside))
        warnings.warn(f"{said}; they are not used", WeightsIgnored, stacklevel=3)
    return found


def _opened(what: Source, base: nn.Module | Path | None) -> Opened:
    source, given, supplied = what.path, what.given, what.supplied
    own = adaptr_file(source)
    require_one(source, own)
    if own is not None:
        from adaptr.format import digest, read
        from adaptr.format.io import open_tensors

        supplied.refuse("a file of adaptr holds all that it is read by", *supplied.said)
        found = read(own)
        if any(part.digest for part in found.parts.values()):
            digest.require_parts(own, open_tensors(own).header, found.parts)
        foreign.require(found, base)
        return Opened(_placed(found, base), "adaptr", own, given, beside.weights(own) if source.is_dir() else ())
    form = foreign.of(source)
    adapter = form.opened(source, base, supplied)
    file = Path(adapter.source)
    apart = source.is_dir() or form.folder  # what lies beside a format of one file are adapters of their own
    near = beside.unused(adapter, form.beside(file)) if apart else ()
    return Opened(adapter, form.name, file, given, near, supplied)


def left_out(adapter: Adapter) -> str:
    """What lies beside the file that an adapter came from and is not in it, in words; "" for nothing."""
    file = Path(adapter.source) if adapter.source else None
    if file is None or not file.is_file() or not (file.name == NAME or (file.parent / CONFIG).is_file()):
        return ""
    names = beside.unused(adapter, beside.weights(file))
    return called(beside.said(file, names)) if names else ""


def require_alone(adapters: Iterable[Adapter], ignore: bool) -> list[str]:
    """What lies beside adapters that are merged. Raises `WeightsBeside` for anything unless it is to be ignored."""
    found = [said for adapter in adapters if (said := left_out(adapter))]
    if found and not ignore:
        raise WeightsBeside(
            f"{found[0]}: they were trained with it, and without them the merged model is another",
            hint="put them where they belong, or say `--ignore-beside`",
        )
    return [f"{said}; they are not merged" for said in found]


def adaptr_file(source: Path) -> Path | None:
    """The adaptr file that `source` is or holds, or None. Raises `InputError` if a folder holds several."""
    if source.is_dir():
        found = sorted(source.glob("*.adaptr.safetensors"))
        if len(found) > 1:
            raise InputError(f"`{source}` holds {len(found)} adaptr files", hint=f"name one, such as `{found[0]}`")
        return found[0] if found else None
    return source if is_adaptr(source) else None


def require_one(source: Path, own: Path | None) -> None:
    """Raises `InputError` for a folder with the adaptr file `own` and an adapter of another tool: one may be stale."""
    other = _of_another_tool(source) if own is not None and source.is_dir() else None
    if other is not None:
        raise InputError(
            f"`{source}` holds two adapters, `{(own.name if own else '')}` and `{other.name}`",
            hint="name the first as a file, or keep them in folders of their own",
        )


def _of_another_tool(folder: Path, alone: bool = True) -> Path | None:
    """The weights of an adapter of another tool that a folder holds, or the folder where no file of it is one alone.

    `alone`: also of a tool whose adapters are files, which lie beside others and keep their names.
    """
    found = foreign.claimed(folder)
    return found[1] if found is not None and (alone or found[0].folder) else None


def placed(out: str | os.PathLike[str], force: bool, reads: Iterable[Path]) -> Path:
    """The adaptr file to write for an output: `out`, or one in the folder `out`.

    Raises `UsageError` for a name that says it is something else, `OutputExists` as `require_file` does, and for the
    folder of another adapter: what is read there later would be one or the other.
    """
    place = weights_named(out)
    file = place / NAME if place.is_dir() else place
    require_file(file, force, reads)
    inside = [path for path in file.parent.glob("*.adaptr.safetensors") if path != file] if place.is_dir() else []
    other = next(iter(inside), None) or (_of_another_tool(file.parent, False) if file.parent.is_dir() else None)
    if other is not None:
        raise OutputExists(f"`{file.parent}` holds another adapter, `{other.name}`", hint="give an output elsewhere")
    return file


def reads(*sources: object) -> list[Path]:
    """The files and folders here that are read for adapters and bases, given or loaded: nothing is pulled for it.

    Live models are no files.
    """
    return [_whole(path) for source in sources for path in _here(source)]


def _here(source: object) -> list[Path]:
    if isinstance(source, Expression):
        return [path for part, _ in source.terms for path in _here(part)]
    if isinstance(source, Adapter):
        return [Path(source.source)] if source.source else []
    found = resolve(source) if isinstance(source, str) else source
    if isinstance(found, Source):
        return [] if found.here is None else [found.here]
    return [Path(found)] if isinstance(found, os.PathLike) else []


def _whole(path: Path) -> Path:
    """A file of a folder that is one adapter stands for the folder: its configuration lies there."""
    lone = not path.is_file() or not (path.parent / CONFIG).is_file() or is_adaptr(path)
    return path if lone else path.parent


def _placed(adapter: Adapter, base: nn.Module | Path | None) -> Adapter:
    if base is None or not any(target.is_attention for target in adapter.targets.values()):
        return adapter
    from adaptr.checkpoint.skeleton import skeleton
    from adaptr.families.prompt import placed

    return placed(skeleton(base), adapter)
