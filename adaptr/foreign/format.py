"""What a format plugin is: how its files look, and reading and writing them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from adaptr.errors import LossyConversion, UnknownFormat, Unsupported, UsageError
from adaptr.foreign.seen import CONFIG, Seen
from adaptr.foreign.supplied import NOTHING, Supplied

if TYPE_CHECKING:
    import os
    from typing import TypeAlias

    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.host.tree import Block

    #: A base model: a folder with a `config.json`, or a live one.
    BaseModel: TypeAlias = str | os.PathLike[str] | nn.Module

#: How the names of files with tensors end.
CONTAINERS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz"})


@dataclass(frozen=True)
class Written:
    """What writing a file did to an adapter.

    `file`: where the tensors are. `renamed`: adaptr's tensor key to the file's. `lost`: what the format can't hold.
    `notes`: what those who read it have to know.
    """

    file: Path
    renamed: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


#: Files of a folder whose headers are looked at, at most.
MOST_FILES = 64


@dataclass(frozen=True)
class Marks:
    """What tells the files of a format from those of others.

    `files`: what weights are called in a folder, the best first. `config`: fields of `adapter_config.json`, each of
    which is this format's own. `keys`: expressions, one of which the whole name of a tensor matches; `others`: those
    that a name matches which is another tool's all the same. `first`: how a file begins. `suffixes`: how files end of
    which a folder that is no model's or PEFT's may have one under any name, known by the names in it.
    """

    files: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    first: tuple[bytes, ...] = ()
    suffixes: tuple[str, ...] = ()

    def locate(self, seen: Seen) -> Path | None:
        """The weights: one of `files` in a folder; a file beside a configuration that is this format's, but what a
        training needs to go on; and where there is none in this format, a file that begins so, or has such names in it.
        """
        if seen.folder:
            called = [name for name in self.files if name in seen.files]
            return self._only(seen, called) if self.suffixes else next((seen.path / name for name in called), None)
        if self.config:
            beside = seen.path.suffix in CONTAINERS and seen.path.is_file() and self.configured(seen.config)
            return seen.path if beside and not (seen.ours or seen.state) else None
        return seen.path if self.begins(seen.first) or (self.keys and self.named(seen.names)) else None

    def _only(self, seen: Seen, called: list[str]) -> Path | None:
        """The file of a folder with such names in it: one that is called so, or the only one. None for several."""
        if CONFIG in seen.files or "config.json" in seen.files:
            return None
        others = sorted(name for name in seen.files if name.endswith(self.suffixes) and name not in called)
        near = map(seen.within, called + others[:MOST_FILES])
        found = [one.path for one in near if not one.ours and self.named(one.names)]
        return found[0] if len(found) == 1 or (found and found[0].name in called) else None

    def configured(self, config: Mapping[str, Any]) -> bool:
        """Whether a configuration has a field that is this format's own."""
        return any(name in config for name in self.config)

    def begins(self, first: bytes) -> bool:
        """Whether a file begins as this format's do."""
        return first.startswith(self.first) if self.first else False

    def named(self, names: Iterable[str]) -> bool:
        """Whether one of the names of tensors is as in this format."""
        # `.` takes ends of lines too: where the end of a pattern can't fail, nothing is tried again and again
        mine, theirs = ([re.compile(one, re.DOTALL) for one in some] for some in (self.keys, self.others))
        found = (name for name in names if any(one.fullmatch(name) for one in mine))
        return any(not any(one.fullmatch(name) for one in theirs) for name in found)


class Format:
    """A format of adapters: a file `adaptr_formats/<name>.py`, or a class given by the entry point `adaptr.formats`.

    What it does not override it can't do.
    """

    #: The file's and the entry point's name.
    name: ClassVar[str] = ""
    #: The tool that has it, as messages call it, and what one of its files is.
    tool: ClassVar[str] = ""
    called: ClassVar[str] = ""
    marks: ClassVar[Marks] = Marks()
    #: What can be done with one of its files where adaptr reads none.
    way: ClassVar[str] = ""
    #: Whether it is written as a folder; else as a file.
    folder: ClassVar[bool] = True
    #: How the name of such a file ends.
    suffix: ClassVar[str] = ".safetensors"
    #: What its files may lack that people then have to say: fields of `Supplied`.
    asks: ClassVar[frozenset[str]] = frozenset()

    def locate(self, seen: Seen) -> Path | None:
        """The file with the tensors of an adapter in this format, None where there is none."""
        return self.marks.locate(seen)

    def recognises(self, seen: Seen) -> bool:
        """Whether a folder is of this tool, where none of its adapters is read."""
        return bool(seen.files.intersection(self.marks.files))

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        """The adapter at `path`, whose `source` is the file with its tensors, which stay there until asked for.

        `base`: a folder with a `config.json`, a live model, or None. `supplied`: of what the format `asks` for, what
        was said; what the file holds is refused (`supplied.refuse`). Raises a `ForeignError` or `Unsupported`.
        """
        raise Unsupported(
            f"adaptr can't read {self.called} yet",
            hint="convert it to a format that it reads (`adaptr convert --help`) with the tool that wrote it",
        )

    def block(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Block:
        """The block of several adapters that is at `path`, for a live model, in a format that has such."""
        raise Unsupported(f"{self.called} is one adapter, and no block of several", hint="load it (`adaptr.load`)")

    def based(self, adapter: Adapter, base: BaseModel) -> Adapter:
        """`adapter` with what a file of this format needs of its base and an adapter does not say, in `foreign`."""
        return adapter

    def lost(self, adapter: Adapter) -> list[str]:
        """What of an adapter has no place in this format, in words."""
        return []

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        """Write `adapter` without what is lost, the whole of it or nothing, the same bytes for the same adapter."""
        raise Unsupported(f"adaptr can't write {self.called} yet", hint="choose another format with `--to`")

    def of(self, version: str) -> Format:
        """This format as a version of its tool reads it. Raises `UsageError` where they are not told apart."""
        raise UsageError(
            f"the versions of {self.tool} are not told apart", hint=f"say `--to {self.name}`, without a version"
        )

    def require(self, adapter: Adapter, base: BaseModel | None) -> None:
        """Raises `TensorAbsent` where an adapter that came from this format lacks what it was promised to have."""

    def beside(self, file: Path) -> tuple[str, ...]:
        """The names of the files beside `file`, in its folder, with weights that are no part of the adapter."""
        from adaptr.foreign import beside

        return beside.weights(file)

    def files(self, file: Path) -> tuple[Path, ...]:
        """The files that make the adapter at `file`, where its tensors are in several: what its digest is of."""
        return (file,)

    def unkept(self, file: Path) -> tuple[str, ...]:
        """What lies beside `file` and neither comes along when it is read nor can."""
        return ()

    def about(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        """What a configuration says of its adapter: `method`, `rank`, `base`."""
        return {}

    @final
    def opened(self, path: Path, base: BaseModel | None, supplied: Supplied) -> Adapter:
        """`read`, with what was said. Raises `UsageError` where that is nothing that the format asks for."""
        supplied.refuse(f"{self.called} does not ask for it", *(supplied.said.keys() - self.asks))
        return self.read(path, base, supplied) if supplied else self.read(path, base)

    @final
    def weights(self, path: Path) -> Path:
        """The file with the tensors of the adapter at `path`. Raises `UnknownFormat` where it is in another format."""

        found = self.locate(Seen(path))
        if found is None:
            raise UnknownFormat(f"`{path}` is not {self.called}", hint="`adaptr inspect` says what it is")
        return found

    @final
    def detect(self, path: Path) -> bool:
        """Whether `path` is of this format."""

        return self.locate(Seen(path)) is not None

    @final
    def write(self, adapter: Adapter, out: Path, lossy: bool = False, force: bool = False) -> Written:
        """Write `adapter`. Raises `LossyConversion` unless `lossy` where something has no place in the format."""
        lost = tuple(self.lost(adapter))
        if lost and not lossy:
            raise LossyConversion(f"{self.tool} can't hold {', '.join(lost)}", hint="`--lossy` writes it without")
        return replace(self.save(adapter, out, force), lost=lost)

    @property
    def writes(self) -> bool:
        """Whether it can be written."""
        return type(self).save is not Format.save
