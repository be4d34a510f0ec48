"""What shows of a path without loading it: first bytes, names, configuration. Nothing is unpickled, no torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adaptr.errors import ForeignError, FormatError, LfsPointer, phrases
from adaptr.format import header as headers
from adaptr.format import manifest as manifests
from adaptr.untrusted import json_object, opened, whole

LFS = b"version https://git-lfs.github.com/spec/"
#: What an archive of numpy's arrays is called, and a file of torch's whose tensors have no names.
NPZ = "an npz archive"
LIST = "a list of tensors (torch)"
#: The configuration beside the weights: of PEFT, AdapterHub and MLX alike.
CONFIG = "adapter_config.json"
CONFIG_LIMIT = 16_000_000
#: The state of a training: optimisers, schedules, generators, arguments.
STATE = re.compile(
    r"(.*_)?(optimizer|optim_states|optim|scheduler|training_args|training_state|trainer_state|scaler|sampler|"
    r"dataloader|dl_state_dict|rng_state|random_states|custom_checkpoint)(_.*|\d*)?"
    r"|\d{7}_adapters"  # MLX keeps every state of the adapter on the way
)
PICKLE_LIMIT = 64_000_000
#: Steps of a pickle that are looked at: those of 100,000 tensors, in a second or two.
MOST_STEPS = 2_000_000
#: How the header of a file that adaptr wrote begins.
OURS = f'{{"__metadata__":{{"{manifests.KEY}":"'.encode()


@dataclass(frozen=True)
class Seen:
    """A path that is looked at: each thing when it is asked for, and once.

    All raise `LfsPointer` for a file that was never downloaded, a `ForeignError` for what is damaged.
    """

    path: Path

    @cached_property
    def folder(self) -> bool:
        return self.path.is_dir()

    @cached_property
    def ours(self) -> bool:
        """Whether it is a file that adaptr wrote."""
        if not self.path.is_file():
            return False
        return _starts_as_ours(self.path) or manifests.KEY in self._header.get("__metadata__", {})

    @cached_property
    def _header(self) -> Mapping[str, Any]:
        return peeked(self.path)

    @property
    def state(self) -> bool:
        """Whether it is called as the state of a training, and is no safetensors file, as adapters on the way are."""
        return self.path.suffix != ".safetensors" and STATE.fullmatch(self.path.stem) is not None

    @cached_property
    def files(self) -> frozenset[str]:
        """The names of the files in a folder."""
        return frozenset(file.name for file in self.path.iterdir() if file.is_file()) if self.folder else frozenset()

    def within(self, name: str) -> Seen:
        """A file of the folder, which several formats ask for."""
        return self._within.setdefault(name, Seen(self.path / name))

    @cached_property
    def _within(self) -> dict[str, Seen]:
        return {}

    @cached_property
    def first(self) -> bytes:
        """How a file begins."""
        if self.folder:
            return b""
        with opened(self.path) as file:
            first = file.read(512)
        refuse_pointer(self.path, first)
        return first

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The configuration in a folder, or beside a file."""
        return config_of(self.path if self.folder else self.path.parent) or {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tensors in a file, or what may be some; none of a folder."""
        return self._inside[1]

    @property
    def container(self) -> str:
        """What a file is whose tensors have names, "" for another or a folder."""
        return self._inside[0]

    @cached_property
    def _inside(self) -> tuple[str, tuple[str, ...]]:
        if self.first[8:9] == b"{":
            return "a safetensors file", short(key for key in self._header if key != "__metadata__")
        if self.first.startswith(b"PK\x03\x04"):
            return _zipped(self.path)
        return ("a pickle", pickled(_start(self.path))) if self.first.startswith(b"\x80") else ("", ())


def short(names: Iterable[str]) -> tuple[str, ...]:
    """The names that tensors can have: longer ones are not looked at."""
    return tuple(name for name in names if len(name) <= headers.MAX_KEY)


def refuse_pointer(path: Path, first: bytes) -> None:
    """Raises `LfsPointer` if a file that starts with `first` is a Git LFS pointer."""
    if not first.startswith(LFS):
        return
    found = re.search(rb"oid (sha256:[0-9a-f]{64})\s+size (\d+)", first)
    said = f" of {int(found[2])} bytes, {found[1].decode()}," if found else ""
    raise LfsPointer(
        f"`{path}` is a Git LFS pointer: the file{said} was never downloaded", hint="run `git lfs pull` there"
    )


def is_adaptr(path: Path) -> bool:
    """Whether `path` is a safetensors file with an adaptr manifest, by its header."""
    return Seen(path).ours


def _starts_as_ours(path: Path) -> bool:
    """As adaptr writes its files: what saves reading the whole header twice."""
    with opened(path) as file:
        return file.read(8 + len(OURS))[8:] == OURS


def peeked(path: Path) -> Mapping[str, Any]:
    """The JSON of a safetensors header, unchecked; empty for anything else."""
    with opened(path) as file:
        first = file.read(9)
        length = int.from_bytes(first[:8], "little")
        if first[8:] != b"{" or not 0 < length <= headers.MAX_HEADER:
            return {}
        raw = b"{" + file.read(length - 1)
    try:
        found = headers.load_json(raw)
    except FormatError:
        return {}
    said = found.get("__metadata__")
    return {**found, "__metadata__": said if isinstance(said, dict) else {}}


def config_of(folder: Path) -> Mapping[str, Any] | None:
    """A JSON object beside the weights, or None. Raises `ForeignError` if it is there and is no JSON object."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    raw = whole(path, CONFIG_LIMIT)
    refuse_pointer(path, raw[:512])
    return json_object(raw, f"`{path}`", ForeignError)


def pickled(raw: bytes) -> tuple[str, ...]:
    """The texts inside a pickle, read without executing it: among them are the tensors' names."""
    import pickletools

    found = []
    try:
        for _, argument, _ in itertools.islice(pickletools.genops(raw), MOST_STEPS):
            if isinstance(argument, str):
                found.append(argument)
    except Exception:
        pass  # cut off or damaged in any way: what was read so far still says what it is
    return short(text for text in found if " " not in text)


def _is_list(raw: bytes) -> bool:
    """Whether a pickle is a list that begins with a tensor, by its first steps."""
    import pickletools

    try:
        steps = [(code.name, argument) for code, argument, _ in itertools.islice(pickletools.genops(raw), 5)]
    except Exception:  # as in `pickled`
        return False
    made = [str(argument) for name, argument in steps if name == "GLOBAL"]
    return any(name == "EMPTY_LIST" for name, _ in steps[:3]) and any("torch._utils _rebuild" in one for one in made)


def _start(path: Path) -> bytes:
    with opened(path) as file:
        return file.read(PICKLE_LIMIT)


def _zipped(path: Path) -> tuple[str, tuple[str, ...]]:
    """What a zip archive is, and the names in it."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            inner = next((name for name in names if name.endswith("data.pkl")), None)
            raw = archive.open(inner).read(PICKLE_LIMIT) if inner else b""
    except Exception as error:  # zipfile and zlib raise whatever the bytes lead them to
        raise ForeignError(f"`{path}` is a damaged zip archive: {error}", hint=phrases.FETCH) from None
    if raw:
        return (LIST, ()) if _is_list(raw) else ("a torch file", pickled(raw))
    arrays = short(name.removesuffix(".npy") for name in names if name.endswith(".npy"))
    return NPZ if arrays else "a zip archive", arrays
