"""Kills, crowds and bad weather."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adaptr.registry.reference import parse
from adaptr.registry.remotes import Remote
from adaptr.registry.store import Store
from registry import load
from registry.conftest import Made
from registry.servers.faults import Faults

PULL = """
import sys
from contextlib import contextmanager
from pathlib import Path
from adaptr.registry.reference import parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store, locks
if sys.argv[3] == "no locks":
    @contextmanager
    def nothing(*_, **__):
        yield False
    locks.held = nothing
    locks.honoured = lambda path: False
print(of("oci").pull(parse(sys.argv[1]), Store(Path(sys.argv[2]))))
assert not {"torch", "numpy"} & set(sys.modules)
"""


def puller(reference: object, store: Store, locks: str = "locks") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PULL, str(reference), str(store.root), locks]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_again_and_again(
    oci: Remote, faulty: Faults, repository: str, store: Store, other: Store, made: Made
) -> None:
    """At random moments of a slow pull; each goes on where the last one was."""
    digest, where = made(store, 2_000_000), parse(f"oci://{faulty.host}/{repository}:latest")
    oci.push(store, digest, where)
    faulty.add("GET .*blobs/", "slow:0.01")
    draw, reached = random.Random(7), []
    for _ in range(3):
        child = puller(where, other)
        until = time.monotonic() + 20
        start = sum(reached[-1:])
        goal = start + draw.randrange(100_000, 900_000)
        while child.poll() is None and size(other) < goal and time.monotonic() < until:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        reached.append(size(other))
    faulty.rules.clear()
    faulty.seen.clear()
    assert oci.pull(where, other) == digest
    assert reached == sorted(reached)
    asked = [headers["Range"] for _, headers in faulty.seen if "Range" in headers]
    assert asked == [f"bytes={reached[-1]}-"]
    assert not os.listdir(other.root / "ingest")


def size(store: Store) -> int:
    """The longest part on its way in."""
    found = [entry.stat().st_size for entry in os.scandir(store.root / "ingest") if entry.name.endswith(".part")]
    return max(found, default=0)


@pytest.mark.parametrize("locks", ["locks", "no locks"])
def test_a_crowd_pulls_the_same(
    locks: str, oci: Remote, faulty: Faults, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest, where = made(store, 500_000), parse(f"oci://{faulty.host}/{repository}:latest")
    oci.push(store, digest, where)
    faulty.add("GET .*blobs/", "slow:0.01")
    children = [puller(where, other, locks) for _ in range(4)]
    for child in children:
        out, err = child.communicate(timeout=60)
        assert (child.returncode, out.strip()) == (0, digest), err
    assert all(other.path(blob.digest).is_file() for blob in other.manifest(digest).blobs)
    assert not [name for name in os.listdir(other.root / "ingest") if name.endswith(".part")]


def test_bad_weather(tmp_path: Path) -> None:
    """The short form; `python tests/registry/load.py` is the long one."""
    faulty = load.run(16, 4, tmp_path)
    assert faulty.failed > 10
