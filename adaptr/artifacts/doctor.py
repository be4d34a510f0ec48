"""What is installed, what works here and what is missing, and how much lies in the store and the Hub's cache."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adaptr.discovery import installed
from adaptr.files.home import home
from adaptr.files.hub_cache import folder
from adaptr.foreign import formats
from adaptr.kernels import building
from adaptr.report import Report
from adaptr.version import __version__

#: What each extra is for.
EXTRAS: Mapping[str, str] = {
    "train": "models of transformers: attach, train, generate, gates",
    "eval": "ROUGE, BLEU and entities for `adaptr eval`; the other metrics need none",
    "tune": "`adaptr compose --tune`",
    "quant": "4- and 8-bit bases by bitsandbytes",
    "hub": "`hf://` references",
    "plots": "pages with pictures: `adaptr diff --html` and its kin",
    "search": "the strategy `lorahub`",
    "sign": "`adaptr sign`, `verify --key`, policies",
    "gguf": "llama.cpp's quantised tensors, and a model's GGUF file as a base",
}
#: Variables that change what adaptr does; none of them is a secret.
VARIABLES = (
    "ADAPTR_HOME", "ADAPTR_NO_PLUGINS", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "NO_COLOR",
    "TMPDIR",
)  # fmt: skip
_NEED = re.compile(r"([\w.-]+)(?:\[[^]]*])?([^;]*)(?:;.*extra == [\"'](\w+)[\"'])?")
_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")


@dataclass(frozen=True)
class Need:
    """A package that is needed: which versions, and which is here, "" for none."""

    name: str
    wanted: str
    found: str

    @property
    def met(self) -> bool:
        bounds = [(sign, _numbers(bound)) for sign, bound in _BOUND.findall(self.wanted)]
        mine = _numbers(self.found)
        return bool(self.found) and all(mine >= bound if sign == ">=" else mine < bound for sign, bound in bounds)

    @property
    def words(self) -> str:
        if self.met:
            return f"{self.name} {self.found}"
        return f"{self.name}{self.wanted} ({f'it is {self.found}' if self.found else 'missing'})"


@dataclass(frozen=True)
class Extra:
    """What an extra is for, and what it brings."""

    name: str
    what: str
    needs: tuple[Need, ...]

    @property
    def works(self) -> bool:
        return all(need.met for need in self.needs)


@dataclass(frozen=True)
class Place:
    """A folder of this machine that adaptr uses."""

    what: str
    path: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Health(Report):
    """`kernels`: whether merging runs compiled; `needs`: what adaptr can't do without; `faults`: of plugins."""

    version: str
    python: str
    machine: str
    kernels: bool
    needs: tuple[Need, ...]
    extras: tuple[Extra, ...]
    faults: tuple[str, ...]
    places: tuple[Place, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether what must be there is there; what an extra would bring may be missing."""
        return all(need.met for need in self.needs) and not self.faults

    def as_dict(self) -> dict[str, Any]:
        extras = [{**asdict(extra), "works": extra.works} for extra in self.extras]
        return {**asdict(self), "extras": extras, "ok": self.ok}


def doctor() -> Health:
    """Look at this installation and this machine. Nothing is imported that is looked at, and no network is asked."""
    needs = list(_needs())
    return Health(
        version=__version__,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {sys.executable}",
        kernels=building.LIBRARY.is_file(),
        needs=tuple(need for need, extra in needs if not extra),
        extras=tuple(
            Extra(name, what, tuple(need for need, extra in needs if extra == name)) for name, what in EXTRAS.items()
        ),
        faults=(*formats.faults(), *_twice()),
        places=(_place("store", home() / "store"), _place("cache of the Hub", folder())),
        variables={name: os.environ[name] for name in VARIABLES if os.environ.get(name)},
    )


def _needs() -> Iterator[tuple[Need, str]]:
    """What adaptr's own metadata asks for, and for which extra; "" for all."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        asked = requires("adaptr") or []
    except PackageNotFoundError:  # run from its source, uninstalled
        return
    for text in asked:
        if (found := _NEED.match(text)) and found[1] != "adaptr":
            yield Need(found[1], found[2].strip(), _version(found[1])), found[3] or ""


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` as (2, 13, 0)."""
    said = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, said[0].split("."))) if said else ()


def _twice() -> Iterator[str]:
    """Plugins of one name that two distributions give."""
    for group, point in installed.every():
        if len(point.by) > 1:
            yield f"`{point.name}` of {group} is given by {' and '.join(point.by)}: uninstall one"


def _place(what: str, path: Path) -> Place:
    sizes = [entry.lstat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink()]
    return Place(what, str(path), len(sizes), sum(sizes))
