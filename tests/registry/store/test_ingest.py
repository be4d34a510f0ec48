"""Blobs on their way in: cut off, damaged, too long, too short, by several processes, killed, on a full disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from adaptr.errors import DigestMismatch, DiskFull, TransferError
from adaptr.registry import terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor
from adaptr.registry.store import Store, ingest

DATA = random.Random(0).randbytes(300_000)
WHAT = Descriptor(terms.WEIGHTS_LAYER, Digest.of(DATA), len(DATA))


class Wire:
    """A source with faults: what it sends a time, and where it claims to start."""

    def __init__(self, data: bytes = DATA, cut: int = 0, ranges: bool = True, chunk: int = 10_000) -> None:
        self.data, self.cut, self.ranges, self.chunk = data, cut, ranges, chunk
        self.starts: list[int] = []

    def __call__(self, start: int) -> AbstractContextManager[tuple[int, Iterator[bytes]]]:
        return self._open(start)

    @contextmanager
    def _open(self, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        self.starts.append(start)
        first = start if self.ranges else 0
        end = first + self.cut if self.cut else len(self.data)
        yield (
            first,
            (self.data[i : min(i + self.chunk, end)] for i in range(first, min(end, len(self.data)), self.chunk)),
        )
        if end < len(self.data):
            raise TransferError("cut")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(ingest.time, "sleep", lambda _: None)
    return Store(tmp_path / "store")


def whole(store: Store) -> bool:
    return store.path(WHAT.digest).read_bytes() == DATA and not list((store.root / "ingest").iterdir())


@pytest.mark.parametrize(
    "wire",
    [Wire(), Wire(cut=90_000), Wire(cut=20_001), Wire(chunk=999_999)],
    ids=["clean", "cut", "cut often", "at once"],
)
def test_a_blob_arrives(store: Store, wire: Wire) -> None:
    counted: list[int] = []
    store.fetch(WHAT, wire, counted.append)
    assert whole(store)
    assert sum(counted) == len(DATA)
    assert wire.starts == sorted(set(wire.starts)), "each try goes on where the last one stopped"
    store.fetch(WHAT, Wire(b"never asked"))


def test_a_source_without_ranges_starts_over(store: Store) -> None:
    """It sends all each time, and is cut later each time."""

    class Growing(Wire):
        @contextmanager
        def _open(self, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
            self.cut += 120_000
            with super()._open(start) as opened:
                yield opened

    store.fetch(WHAT, Growing(ranges=False))
    assert whole(store)


@pytest.mark.parametrize("data", [DATA[:-1] + b"x", DATA + b"x" * 10**6], ids=["changed", "too long"])
def test_what_is_not_the_blob_is_refused_and_gone(store: Store, data: bytes) -> None:
    with pytest.raises(DigestMismatch, match=f"wanted {WHAT.digest}"):
        store.fetch(WHAT, Wire(data))
    assert not store.has(WHAT.digest)
    assert not list((store.root / "ingest").iterdir())


def test_a_blob_that_stays_short_is_a_failed_transfer(store: Store) -> None:
    wire = Wire(DATA[:1000])
    with pytest.raises(TransferError, match="ended after 1000 of 300000"):
        store.fetch(WHAT, wire)
    assert len(wire.starts) == 1 + ingest.TRIES
    left = list((store.root / "ingest").iterdir())
    assert [path.stat().st_size for path in left] == [1000], "what arrived is kept"


def test_a_bad_part_of_another_process_costs_one_clean_try(store: Store) -> None:
    (store.root / "ingest" / f"{WHAT.digest.hex}.1.dead.part").write_bytes(b"x" * 5000)
    wire = Wire()
    store.fetch(WHAT, wire)
    assert whole(store)
    assert wire.starts == [5000, 0]


def test_a_planted_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s" * 4000)
    (store.root / "ingest" / f"{WHAT.digest.hex}.1.dead.part").symlink_to(tmp_path / "secret")
    wire = Wire()
    store.fetch(WHAT, wire)
    assert wire.starts == [0]
    assert (tmp_path / "secret").read_bytes() == b"s" * 4000


CHILD = """
import sys, time, pathlib, random
from contextlib import contextmanager
sys.path.insert(0, {tests!r})
from adaptr.registry import terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor
from adaptr.registry.store import Store, locks
if {stub}:
    @contextmanager
    def held(path, patience):
        yield False
    locks.held = held
data = random.Random(1).randbytes(3_000_000)
def source(start):
    @contextmanager
    def opened():
        def chunks():
            for i in range(start, len(data), 50_000):
                time.sleep({pause})
                yield data[i : i + 50_000]
        yield start, chunks()
    return opened()
store = Store(pathlib.Path({root!r}))
what = Descriptor(terms.WEIGHTS_LAYER, Digest.of(data), len(data))
print("ready", flush=True)
store.fetch(what, source)
print(store.path(what.digest).stat().st_size)
"""


def child(root: Path, stub: bool = False, pause: float = 0.005) -> subprocess.Popen[str]:
    code = CHILD.format(tests=str(Path(__file__).parent), root=str(root), stub=stub, pause=pause)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stub", [False, True], ids=["locks", "no locks"])
def test_four_processes_fetch_the_same_blob(tmp_path: Path, stub: bool) -> None:
    children = [child(tmp_path / "store", stub) for _ in range(4)]
    for one in children:
        out, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
        assert out.split() == ["ready", "3000000"]
    assert not list((tmp_path / "store" / "ingest").iterdir())


def arrived(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / "ingest").glob("*"))


def test_a_killed_fetch_is_resumed(tmp_path: Path) -> None:
    root = tmp_path / "store"
    for _ in range(3):
        one = child(root, pause=0.02)
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
        until = time.monotonic() + 60
        while not arrived(root) and time.monotonic() < until:  # a busy machine may not have written a byte yet
            time.sleep(0.01)
        time.sleep(random.Random().uniform(0.0, 0.4))
        one.send_signal(signal.SIGKILL)
        one.communicate()
    assert arrived(root) > 0
    out, err = child(root, pause=0.0).communicate(timeout=60)
    assert out.split() == ["ready", "3000000"], err
    assert not list((root / "ingest").iterdir())


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="only root can mount a small disk")
def test_a_full_disk_is_said_before_and_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        disk.chmod(0o755)
        store = Store(disk / "store")
        with pytest.raises(DiskFull, match="adaptr gc"):
            store.fetch(WHAT, Wire())
        monkeypatch.setattr(ingest, "_require_room", lambda *_: None)
        with pytest.raises(DiskFull, match="what arrived is kept"):
            store.fetch(WHAT, Wire())
        assert not store.has(WHAT.digest)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_parts_that_others_finish_meanwhile_stop_no_sweep(tmp_path: Path) -> None:
    done = threading.Event()

    def others() -> None:
        while not done.is_set():
            for path in (parts := [tmp_path / f"{WHAT.digest.hex}.{n}.part" for n in range(50)]):
                path.touch()
            for path in parts:
                path.unlink(missing_ok=True)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(others)
        try:
            for _ in range(300):
                ingest.sweep_old(tmp_path)
                ingest.sweep(tmp_path, WHAT.digest.hex)
        finally:
            done.set()
        working.result()
