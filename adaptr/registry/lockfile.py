"""`adaptr.lock`: which digest each reference of a project stands for.

Where the file is in the working folder, references mean what it says: a tag that moved is told, and not followed. With
`ADAPTR_FROZEN=1` or `--frozen` a reference that it does not pin is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adaptr.errors import AdaptrError, InputError, PolicyError, shown
from adaptr.files import replacing
from adaptr.registry.digest import Digest
from adaptr.registry.reference import Reference, parse
from adaptr.untrusted import json_file

FILE = "adaptr.lock"
VERSION = 1


@dataclass(frozen=True)
class Pin:
    """What a reference stands for. `source`: the same place, with what never moves: a digest or a commit."""

    digest: Digest
    source: Reference


@dataclass(frozen=True)
class Lock:
    """The lock file of a folder; empty where there is none."""

    path: Path
    pins: Mapping[str, Pin] = field(default_factory=dict)
    exists: bool = False

    def pin(self, reference: Reference, frozen: bool = False) -> Pin | None:
        """The pin of a reference, or None. Raises `PolicyError` for one that is not pinned while all must be."""
        found = self.pins.get(str(reference))
        if found is None and reference.digest is None and (frozen or is_frozen()):
            raise PolicyError(
                f"`{reference}` is not pinned in `{self.path}` and nothing may move",
                hint=f"pin it with `adaptr pull {reference} --lock`, or name it by digest",
            )
        return found

    def with_pin(self, reference: Reference, pin: Pin) -> Lock:
        return Lock(self.path, {**self.pins, str(reference): pin}, True)

    def write(self) -> None:
        """Write the file: sorted, so that it says the same in the same order."""
        artifacts = {
            name: {"digest": str(pin.digest), "source": str(pin.source)} for name, pin in sorted(self.pins.items())
        }
        with replacing(self.path, force=True) as file:
            file.write((json.dumps({"version": VERSION, "artifacts": artifacts}, indent=2) + "\n").encode())


def is_frozen() -> bool:
    """Whether the environment says that nothing may move."""
    return os.environ.get("ADAPTR_FROZEN", "") not in {"", "0"}


def read(folder: Path | None = None) -> Lock:
    """The lock file of a folder, by default the working one. Raises `InputError` for one that can't be understood."""
    path = (folder or Path.cwd()) / FILE
    if not path.is_file():
        return Lock(path)
    document = json_file(path)
    artifacts = document.get("artifacts")
    if document.get("version") != VERSION or not isinstance(artifacts, dict):
        raise InputError(f"`{path}` is no lock file of version {VERSION}", hint="take it away and lock again")
    return Lock(path, {name: _pin(path, name, value) for name, value in artifacts.items()}, True)


def _pin(path: Path, name: str, value: object) -> Pin:
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("digest", "source")):
        raise InputError(f"`{path}`: `{shown(name)}` lacks a field", want="`digest` and `source`", hint="lock it again")
    try:
        return Pin(Digest(value["digest"]), parse(value["source"]))
    except AdaptrError as error:
        raise InputError(f"`{path}`: `{shown(name)}`: {error.fact}", hint="lock it again") from None
