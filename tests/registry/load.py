"""Many small artifacts pushed and pulled by several workers while everything fails now and then.

`python tests/registry/load.py [ARTIFACTS] [WORKERS]` runs it long: 200 by 8 without arguments. Nothing may be lost,
nothing corrupt, and every digest right.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adaptr.errors import TransferError
from adaptr.registry.client import http, retry
from adaptr.registry.digest import Digest
from adaptr.registry.reference import Reference, parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store
from registry.conftest import made_in
from registry.servers.faults import Faults, fault_server
from registry.servers.registry import docker_registry

#: One in so many requests fails, each in one of these ways.
EVERY = 6
FAULTS = ("cut:2000", "rst:2000", "short:1", "drop", "status:503", "status:429:0", "status:500", "corrupt", "norange")
#: How often a whole push or pull may be started again, as a person or a script would.
AGAIN = 6


class Weather(Faults):
    """A fault for some requests, whichever they are, in an order that a seed gives."""

    def take(self, line: str) -> dict[str, str]:
        with self.lock:
            if self.draw.random() > 1 / EVERY:
                return {}
            # what a registry says is only hashed where it is content
            chosen = self.draw.choice([f for f in FAULTS if f != "corrupt" or "GET" in line])
            self.failed += 1
        return {chosen.partition(":")[0]: chosen.partition(":")[2]}

    draw = random.Random(0)
    failed = 0


def run(artifacts: int, workers: int, folder: Path) -> Weather:
    """Raises `AssertionError` for whatever is lost or other than it was."""
    ours, theirs = Store(folder / "ours"), Store(folder / "theirs")
    retry.PAUSE = 0.01
    made = {f"acme/load{n % 10}:n{n}": made_in(ours, 200 + n, 50) for n in range(artifacts)}
    with docker_registry(folder / "registry") as registry, fault_server(registry.host, Weather("")) as faulty:
        oci = of("oci")

        def carry(name: str) -> tuple[str, Digest]:
            where = parse(f"oci://{faulty.host}/{name}")
            again(lambda: oci.push(ours, made[name], where))
            return name, again(lambda: oci.pull(where, theirs))

        with ThreadPoolExecutor(workers) as pool:
            found = dict(pool.map(carry, made))
        assert found == made
        for name, digest in made.items():
            clean: Reference = parse(f"oci://{registry.host}/{name}")
            assert oci.resolve(clean) == digest
            for blob in theirs.manifest(digest).blobs:
                assert Digest.of(theirs.path(blob.digest).read_bytes()) == blob.digest
        assert isinstance(faulty, Weather)
        return faulty


def again(work):  # type: ignore[no-untyped-def]
    for _ in range(AGAIN - 1):
        try:
            return work()
        except Exception as error:
            if not isinstance(error, TransferError) and "digest" not in str(error):
                raise
    return work()


def main(artifacts: int = 200, workers: int = 8) -> None:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        faulty = run(artifacts, workers, Path(folder))
        http.close()
        seconds = time.perf_counter() - started
    said = f"{len(faulty.seen)} requests, {faulty.failed} of them failed"
    print(f"{artifacts} artifacts, {workers} workers, {seconds:.0f} s, {said}: nothing lost, nothing corrupt")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
