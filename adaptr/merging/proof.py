"""Whether what `unmerge` wrote is the base: the receipt's digests against what lies on the disk, last of all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.bulk import workers
from adaptr.checkpoint.open import Checkpoint, open_checkpoint
from adaptr.checkpoint.side_files import CHANGEABLE, CONFIG
from adaptr.checkpoint.stream import digest_of
from adaptr.errors import DigestMismatch
from adaptr.format import digest
from adaptr.merging import placing
from adaptr.merging.receipt import Receipt

CHANGED = "the merged checkpoint or its receipt was changed since; use the base itself"
OLDER = (
    "the merged checkpoint or its receipt was changed since, or this machine's arithmetic differs from the one that "
    "merged, which receipts of format 2 don't stand; use the base itself"
)


@dataclass(frozen=True)
class Proof:
    """`compared`: tensors equal to the base's by digest. `taken`: those that the receipt has no digest of, which are as
    in the merged checkpoint. `other`: side files that are not as the base's were, or were not there.
    """

    compared: int
    taken: int
    other: tuple[str, ...]


def prove(folder: Path, paper: Receipt) -> Proof:
    """Raises `DigestMismatch` unless every header, tensor and configuration in `folder` that the receipt knows of is
    the base's, and nothing is missing or too much.
    """
    found = open_checkpoint(placing.made_in(folder))
    _require_headers(found, paper)
    known = paper.digests
    _require_names(found, paper, known)
    names = sorted(known, key=lambda name: (-found.lying[name].entry.nbytes, name))
    digests = workers.run(lambda name: digest_of(found.lying[name]), names)
    for number, name in enumerate(names):
        if digests[number] != known[name]:
            raise DigestMismatch(
                f"`{name}` does not come back as the base's ({digests[number]}, the receipt says {known[name]})",
                hint=CHANGED if paper.portable else OLDER,
            )
    return Proof(len(known), len(found.lying) - len(known), _other_files(folder, paper))


def _require_headers(found: Checkpoint, paper: Receipt) -> None:
    wanted = paper.document["base"]["headers"]
    made = {shard.name: "sha256:" + hashlib.sha256(shard.raw).hexdigest() for shard in found.shards}
    for name in sorted({*wanted, *made}):
        if wanted.get(name) != made.get(name):
            raise DigestMismatch(f"the header of `{name}` does not come back as the base's", hint="use the base itself")


def _require_names(found: Checkpoint, paper: Receipt, known: dict[str, str]) -> None:
    strange = (known.keys() - found.lying.keys()) | (paper.added & found.lying.keys())
    if "untouched" in paper.document:  # else the receipt is older, and says nothing of the others
        strange |= found.lying.keys() - known.keys()
    if strange:
        raise DigestMismatch(
            f"the receipt and the base's headers disagree on `{min(strange)}`", hint="use the base itself"
        )


def _other_files(folder: Path, paper: Receipt) -> tuple[str, ...]:
    """Raises `DigestMismatch` for a configuration or an index that is not the base's."""
    base: dict[str, Any] = paper.document["base"]
    wanted = {**base.get("files", {}), **({CONFIG: base["config"]} if "config" in base else {})}
    other = []
    for name, want in sorted(wanted.items()):
        path = folder / name
        if name in CHANGEABLE and name in {CONFIG, *paper.files}:
            digest.require(path, want)
        elif not path.is_file() or digest.of_file(path) != want:
            other.append(name)
    return tuple(other)
