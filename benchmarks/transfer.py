"""200 MB out and back: adaptr beside curl, skopeo and oras-py. `python benchmarks/transfer.py [ROUNDS] [MEGABYTES]`.

The floor is a copy of the file and its SHA-256. curl and oras-py check nothing, skopeo and adaptr check every byte.
Needs docker-registry, skopeo and curl.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import struct
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import measure

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

NAME = "adapter_model.safetensors"

WORK = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import httpx, measure
from adaptr.registry.reference import parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store
verb, where, root, digest = sys.argv[1:]
store, before, started = Store(Path(root)), measure.peak(), time.perf_counter()
if verb == "pull":
    of("oci").pull(parse(where), store)
else:
    of("oci").push(store, store.resolve(digest), parse(where))
work = time.perf_counter() - started
print(json.dumps(dict(work=work, peak=measure.peak(), above=measure.peak() - before, torch="torch" in sys.modules)))
"""

ORAS = """
import sys, oras.client
verb, host, target, folder = sys.argv[1:]
client = oras.client.OrasClient(hostname=host, insecure=True)
if verb == "pull":
    client.pull(target=target, outdir=folder)
else:
    client.push(files=[folder], target=target, disable_path_validation=True)
"""

FLOOR = """
import hashlib, shutil, sys
shutil.copyfile(sys.argv[1], sys.argv[2])
with open(sys.argv[2], "rb") as file:
    hashlib.file_digest(file, "sha256")
"""

CURL_PUSH = """
place=$(curl -sf -D - -o /dev/null -X POST "$1/blobs/uploads/" | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
curl -sf -o /dev/null -H 'Content-Type: application/octet-stream' -T "$2" "$place&digest=$3"
"""


class Bench:
    """A registry, an artifact in it and in a store, and fresh places for each run."""

    def __init__(self, place: Path, host: str, megabytes: int) -> None:
        self.place, self.host, self.count = place, host, 0
        self.file = place / "peft" / NAME
        self.file.parent.mkdir(parents=True)
        _write(self.file, megabytes)
        (self.file.parent / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "target_modules": ["a"]}')
        from adaptr.registry import terms
        from adaptr.registry.digest import Digest
        from adaptr.registry.manifest import Descriptor, Manifest
        from adaptr.registry.store import Store

        self.store = Store(place / "store")
        size = self.file.stat().st_size
        blob = self.store.add_file(self.file)
        part = Descriptor(terms.WEIGHTS_LAYER, blob, size, {terms.TITLE: NAME, terms.FILEPATH: NAME})
        config = Descriptor(terms.MODEL_CONFIG, self.store.add_bytes(b"{}"), 2)
        self.digest: Digest = self.store.put(Manifest.make(config, [part], terms.MODEL_ARTIFACT, {}), "bench:1")
        self.blob = blob
        self.there = f"{host}/bench/there"
        self.running = ExitStack()
        from adaptr.registry.reference import parse
        from adaptr.registry.remotes import of

        of("oci").push(self.store, self.digest, parse(f"oci://{self.there}:1"))

    def fresh(self) -> Path:
        """A folder that was not there, and none of those before."""
        shutil.rmtree(self.place / "run", ignore_errors=True)
        folder = self.place / "run" / str(self.count)
        folder.mkdir(parents=True)
        self.count += 1
        return folder

    def pulls(self) -> dict[str, Callable[[], list[str]]]:
        url = f"http://{self.host}/v2/bench/there/blobs/{self.blob}"
        return {
            "cp and sha256": lambda: [sys.executable, "-c", FLOOR, str(self.file), str(self.fresh() / "x")],
            "curl, unverified": lambda: ["curl", "-sf", "-o", str(self.fresh() / "x"), url],
            "adaptr, verified": lambda: self.own("pull", f"oci://{self.there}:1", self.fresh() / "store"),
            "skopeo, verified": lambda: [
                *("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false"),
                *(f"docker://{self.there}:1", f"oci:{self.fresh()}/x:1"),
            ],
            "oras-py, unverified": lambda: self.oras("pull", f"{self.there}:1", self.fresh()),
        }

    def pushes(self) -> dict[str, Callable[[], list[str]]]:
        def new() -> str:
            """A repository in a registry that nobody knows: skopeo remembers where blobs are, and has them mounted."""
            from registry.servers.registry import docker_registry

            self.running.close()
            self.count += 1
            shutil.rmtree(self.place / "fresh", ignore_errors=True)
            return f"{self.running.enter_context(docker_registry(self.place / 'fresh')).host}/bench/new"

        return {
            "cp and sha256": lambda: [sys.executable, "-c", FLOOR, str(self.file), str(self.fresh() / "x")],
            "curl": lambda: [
                *("bash", "-c", CURL_PUSH, "push", f"http://{new().replace('/', '/v2/', 1)}"),
                *(str(self.file), str(self.blob)),
            ],
            "adaptr": lambda: self.own("push", f"oci://{new()}:1", self.store.root),
            "skopeo": lambda: [
                *("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"),
                *(f"oci:{self.store.root}:bench:1", f"docker://{new()}:1"),
            ],
            "oras-py": lambda: self.oras("push", f"{new()}:1", self.file),
        }

    def own(self, verb: str, where: str, root: Path) -> list[str]:
        script = WORK.format(here=str(Path(__file__).parent))
        return [sys.executable, "-c", script, verb, where, str(root), str(self.digest)]

    def oras(self, verb: str, target: str, folder: Path) -> list[str]:
        return [sys.executable, "-c", ORAS, verb, target.partition("/")[0], target, str(folder)]


def _write(path: Path, megabytes: int) -> None:
    numbers = megabytes * 250_000
    header = json.dumps({"a": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _ in range(megabytes):
            file.write(os.urandom(1_000_000))


def table(title: str, commands: dict[str, Callable[[], list[str]]], reference: str, rounds: int) -> str:
    """Rounds of whole processes in turn, as Markdown; for adaptr also without the start of Python."""
    found: dict[str, list[measure.Sample]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            sample = measure.process(command())
            if number:
                found[name].append(sample)
    seconds = {name: [sample.seconds for sample in samples] for name, samples in found.items()}
    lines = [measure.table(title, seconds, reference, 1.0, "s")]
    for name, samples in found.items():
        if name.startswith("adaptr"):
            work = [sample.work for sample in samples]
            ratio = statistics.median(work) / statistics.median(seconds[reference])
            above = max(sample.said["above"] for sample in samples)
            lines.append(
                f"\n{name}, without the start of Python and its imports: median {statistics.median(work):.2f} s, min "
                f"{min(work):.2f} s, {ratio:.2f} x {reference}; {above:.0f} MB above start; "
                f"torch imported: {any(sample.said['torch'] for sample in samples)}"
            )
    return "\n".join(lines)


def present(bench: Bench, rounds: int) -> str:
    """`adaptr pull` of what is there, whole processes, at a port where nobody listens."""
    os.environ["ADAPTR_HOME"] = str(bench.place / "home")
    shutil.rmtree(bench.place / "home", ignore_errors=True)
    (bench.place / "home").mkdir()
    shutil.copytree(bench.store.root, bench.place / "home" / "store", symlinks=True)
    nobody = f"oci://127.0.0.1:1/bench/there@{bench.digest}"
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "adaptr --help": [sys.executable, "-m", "adaptr", "--help"],
        "adaptr pull of what is there": [sys.executable, "-m", "adaptr", "pull", nobody],
    }
    found = measure.interleave({name: (lambda c=c: measure.process(c)) for name, c in commands.items()}, rounds)
    return measure.table("Pull of what is there, without network, whole processes", found, "python -c pass")


def main(rounds: int = 5, megabytes: int = 200) -> None:
    from registry.servers.registry import docker_registry

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # people have compiled modules
    place = measure.workplace() / "transfer"
    shutil.rmtree(place, ignore_errors=True)
    try:
        with docker_registry(place / "registry") as registry:
            bench = Bench(place, registry.host, megabytes)
            print(
                table(f"Pull, {megabytes} MB, whole processes", bench.pulls(), "curl, unverified", rounds), flush=True
            )
            print(table(f"Push, {megabytes} MB, whole processes", bench.pushes(), "skopeo", rounds), flush=True)
        print(present(bench, 3 * rounds), flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
