"""What a transfer must leave behind, and what stops one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from adaptr.errors import AdaptrError
from adaptr.registry import terms
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.store import Store

How = Literal["changed", "shorter", "longer", "gone"]
#: What becomes of bytes that lie somewhere.
HOW: tuple[How, ...] = ("changed", "shorter", "longer", "gone")


def spoil(file: Path, how: How) -> bool:
    """Do that to a file; True, as `RemoteLaws.damage` says it."""
    data = file.read_bytes()
    file.chmod(0o644)
    made = {"changed": data[:-1] + bytes([data[-1] ^ 1]), "shorter": data[: len(data) // 2], "longer": data + b"more"}
    file.unlink() if how == "gone" else file.write_bytes(made[how])
    return True


class Stop(BaseException):
    """A key that is pressed as soon as anything is told: given as `progress`, it raises itself."""

    def __call__(self, *_: object) -> None:
        raise self

    def during(self, work: Callable[[], object]) -> None:
        """Run what is to be stopped; it is an error that it is not."""
        try:
            work()
        except Stop:
            return
        raise AssertionError("it told nothing of how far it is, and could not be stopped")


def refused(work: Callable[[], object]) -> AdaptrError:
    """The typed error that something ends with."""
    try:
        found = work()
    except AdaptrError as error:
        return error
    raise AssertionError(f"wanted a typed error, got {found!r}")


def harmful(store: Store, name: str) -> Manifest:
    """An artifact with a file of that name."""
    data = b"import os\n"
    said = {terms.TITLE: name, terms.FILEPATH: name}
    layer = Descriptor(terms.DOC_LAYER, store.add_bytes(data), len(data), said)
    return Manifest.make(Descriptor(terms.MODEL_CONFIG, store.add_bytes(b"{}"), 2), [layer], terms.MODEL_ARTIFACT, {})


def assert_whole(store: Store) -> None:
    """Every blob is what its name says, and every artifact has all of its own."""
    for blob in (store.root / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    for entry in store.index.entries():
        assert all(store.has(blob.digest) for blob in store.manifest(entry.digest).blobs)


def assert_nothing(store: Store) -> None:
    """No artifact is in a store, and what arrived of one is what it says."""
    assert_whole(store)
    assert store.index.entries() == []


def assert_progress(heard: list[tuple[int, int, str]], what: str) -> None:
    """From nothing to all, in one measure, never back."""
    assert heard
    totals = {total for _, total, _ in heard}
    assert len(totals) == 1
    assert {said for _, _, said in heard} == {what}
    done = [done for done, _, _ in heard]
    assert done == sorted(done)
    assert (min(done) >= 0, done[-1]) == (True, totals.pop())
