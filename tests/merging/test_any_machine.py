"""What is merged on one machine is verified, taken out and merged again on any other, to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import any_machine
import checkpoints as c
from adaptr import api, plugins

OLD = {"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}
MACHINES = {
    "older instructions": ((), {**OLD, "OMP_NUM_THREADS": "1"}),
    "two threads, summed backwards": (("reversed",), {"OMP_NUM_THREADS": "2", "MKL_CBWR": "SSE4_2"}),
}


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    any_machine.write(folder)
    return folder


@pytest.mark.parametrize("machine", MACHINES)
def test_a_merge_is_the_same_on_another_machine(merged: Path, machine: str) -> None:
    options, env = MACHINES[machine]
    command = [sys.executable, any_machine.__file__, str(merged), *options]
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        command, env={**os.environ, **env, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    for kind, found in json.loads(done.stdout).items():
        assert found["back"] == [], kind
        assert found["ok"], kind
        assert not [name for name in (*found["verified"], *found["merged"]) if any_machine.NEAR not in name], kind


def test_of_a_method_that_promises_nothing_every_bit_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = c.bare(tmp_path / "base", {"q.weight": torch.randn(64, 48).bfloat16()})
    adapter = any_machine.adapter("q", "loha", "linear", (64, 48), {"r": 4})
    sizes = []
    for portable in (True, False):
        monkeypatch.setattr(type(plugins.method("loha")), "portable", portable)
        sizes.append(api.merge(base, [adapter], tmp_path / "out", force=True).receipt_bytes)
        api.unmerge(tmp_path / "out", tmp_path / "back", force=True)
        assert c.digests(tmp_path / "back") == c.digests(base)
    assert sizes[1] > sizes[0] + 1000
