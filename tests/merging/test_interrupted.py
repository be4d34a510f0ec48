"""A merge that dies, runs out of disk or is interrupted leaves what was there; its memory is the same for any base."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import checkpoints as c
from adaptr import api, files
from adaptr.adapter import Target
from adaptr.cli import run
from adaptr.errors import DiskFull, MachineError
from adaptr.merging import receipt

ROOT = Path(__file__).resolve().parents[2]
#: Merges argv[1] with argv[2] into argv[3], slowly, and says when it begins and ends.
SLOW = """
import sys, time
from adaptr import api
def slowly(done, total, what):
    if done == 0 or not slowly.told:
        slowly.told = True
        print("going", flush=True)
    time.sleep(0.02)
slowly.told = False
try:
    api.merge(sys.argv[1], [sys.argv[2]], sys.argv[3], force=True, progress=slowly)
except KeyboardInterrupt:
    print("interrupted", flush=True)
else:
    print("done", flush=True)
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return c.saved("llama", tmp_path / "base", torch.bfloat16, shard="20KB")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    api.save(c.randomised(base), tmp_path / "adapter.safetensors")
    return tmp_path / "adapter.safetensors"


def started(*arguments: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    assert process.stdout
    assert process.stdout.readline() == "going\n"
    return process


def leftovers(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.name.startswith(files.MARK)]


def test_killed_at_any_moment(tmp_path: Path, base: Path, adapter: Path) -> None:
    """Three deaths: without an output before, and with one; the next merge cleans up after them."""
    out, rng = tmp_path / "out", random.Random(0)
    for old in (False, True, True):
        if old:
            api.merge(base, [c.lora_at_q(seed=3)], out, force=True)
            before = c.digests(out)
            assert leftovers(tmp_path) == []
        process = started(base, adapter, out)
        time.sleep(rng.random() * 0.3)
        process.kill()
        process.communicate()
        assert out.exists() == old
        assert len(leftovers(tmp_path)) == 1
        if old:
            assert c.digests(out) == before
    api.merge(base, [adapter], out, force=True)
    assert leftovers(tmp_path) == []
    assert api.verify(out, base, [adapter]).exact


def test_a_running_merge_is_not_swept_up(tmp_path: Path, base: Path, adapter: Path) -> None:
    process = started(base, adapter, tmp_path / "slow")
    api.merge(base, [adapter], tmp_path / "quick")
    assert process.communicate()[0] == "done\n"
    assert c.digests(tmp_path / "slow") == c.digests(tmp_path / "quick")
    assert leftovers(tmp_path) == []


def test_interrupted_from_the_keyboard(tmp_path: Path, base: Path, adapter: Path) -> None:
    process = started(base, adapter, tmp_path / "out")
    process.send_signal(signal.SIGINT)
    assert process.communicate()[0] == "interrupted\n"
    assert {p.name for p in tmp_path.iterdir()} == {"base", "adapter.safetensors"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no tmpfs here: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("exact", [True, False])
def test_a_full_disk(small_disk: Path, tmp_path: Path, exact: bool) -> None:
    base = c.bare(tmp_path / "base", {"p.weight": torch.randn(64, 256), "q.weight": torch.randn(64, 256)})
    adapter = tmp_path / "a.safetensors"
    api.save(c.lora_at(Target("q", "linear", (64, 256))), adapter)
    with pytest.raises(DiskFull):
        api.merge(base, [adapter], small_disk / "out", receipt=exact)
    assert list(small_disk.iterdir()) == []
    assert run(["merge", str(base), str(adapter), "-o", str(small_disk / "out"), "-q"]) == MachineError.exit_code == 8
    assert list(small_disk.iterdir()) == []


def test_a_disk_too_small_for_the_old_and_the_new(small_disk: Path, tmp_path: Path) -> None:
    base = c.bare(tmp_path / "base", {"q.weight": torch.randn(64, 256)})
    adapter = c.lora_at(Target("q", "linear", (64, 256)))
    api.merge(base, [adapter], small_disk / "out", receipt=False)
    before = c.digests(small_disk / "out")
    with pytest.raises(DiskFull):
        api.merge(base, [(adapter, 0.5)], small_disk / "out", force=True)
    assert c.digests(small_disk / "out") == before
    assert leftovers(small_disk) == []


PEAK = """
import sys
sys.path.insert(0, "benchmarks")
from pathlib import Path
import synthetic
from adaptr import api
def peak(layers):
    shape = synthetic.Shape(hidden=1024, ffn=4096, heads=16, kv_heads=4, vocab=4096, layers=layers)
    folder = Path(sys.argv[1]) / str(layers)
    synthetic.llama(folder / "base", shape, shards=2)
    synthetic.lora(folder / "lora", shape, r=8)
    return folder
if sys.argv[2] == "make":
    peak(1), peak(11)
else:
    folder = Path(sys.argv[1]) / sys.argv[2]
    api.merge(folder / "base", [folder / "lora"], folder / "out", force=True)
    api.unmerge(folder / "out", folder / "back", force=True)
    # not ru_maxrss, which starts at that of the process that started this one
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(sum(p.stat().st_size for p in (folder / "base").iterdir()), peak)
"""


def test_memory_does_not_grow_with_the_base(tmp_path: Path) -> None:
    def measured(what: str) -> list[int]:
        command = [sys.executable, "-c", PEAK, str(tmp_path), what]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        assert done.returncode == 0, done.stderr
        return [int(word) for word in done.stdout.split()]

    measured("make")
    (small_size, small), (large_size, large) = measured("1"), measured("11")
    assert large_size - small_size > 250e6
    assert (large - small) * 1024 < 60e6
    assert large * 1024 < 450e6
    assert (tmp_path / "11/out" / receipt.FOLDER / receipt.FILE).stat().st_size < 0.2 * large_size
