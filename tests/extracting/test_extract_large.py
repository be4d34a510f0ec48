"""Large weights: extracted block by block, to the same adapter, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adaptr import api
from adaptr.algebra.dense import Dense
from adaptr.algebra.truncate import truncated
from adaptr.checkpoint.open import open_checkpoint
from adaptr.extracting.between import between
from adaptr.extracting.extract import extract
from checkpoints import bare
from extracting.pairs import Pair


@pytest.mark.parametrize("shape", [(600, 520), (520, 600)])
def test_energies_that_need_much_of_a_large_spectrum(shape: tuple[int, int]) -> None:
    """More of it than the range finder is quick for, so all of it is computed."""
    from adaptr.algebra.dense import Dense

    D = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    low, error = Dense(D).truncate(energy=0.9)
    S = torch.linalg.svdvals(D.double())
    assert error == pytest.approx(float(S[low.rank :].norm() / S.norm()), rel=1e-6)
    assert error**2 <= 0.1 < float(S[low.rank - 1 :].norm() / S.norm()) ** 2
    assert float((low.dense(torch.float64) - D).norm() / S.norm()) == pytest.approx(error, rel=1e-4)


EXTRACTING = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
from pathlib import Path
from adaptr.extracting.job import Job
from adaptr import api
def peak():
    return int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")))
real, found = Job.run, []
def run(job):
    import torch
    found.append(peak())
    made = real(job)
    found.append(peak())
    return made
Job.run = run
folder = Path(sys.argv[1])
api.extract(folder / "base", folder / "tuned", folder / "x.safetensors", rank=int(sys.argv[2]))
print(*found)
"""
TALL, WIDE = (65536, 512), (512, 65536)


@pytest.mark.parametrize(
    ("names", "shape", "rank", "most"),
    [
        pytest.param([f"layers.{i}.weight" for i in range(4)], (16384, 1024), 4, 120e6, id="several"),
        pytest.param(["model.embed_tokens.weight"], (32768, 1024), 4, 90e6, id="transposed"),
        pytest.param(["layer.weight"], TALL, 4, 170e6, id="thin"),
        pytest.param(["layer.weight"], WIDE, 4, 170e6, id="flat"),
        pytest.param(["layer.weight"], (65536, 528), 68, 230e6, id="much"),
    ],
)
def test_memory_is_bounded_by_a_block(
    names: list[str], shape: tuple[int, int], rank: int, most: float, tmp_path: Path
) -> None:
    """Differences of 64 MB in fp32, or one of 128 MB.

    Held as a whole in each thread they took 440 to 710 MB above what was there before the first tensor.
    """
    g = torch.Generator().manual_seed(0)
    one = {name: torch.randn(shape, generator=g).bfloat16() for name in names}
    factors = torch.randn(shape[0], 4, generator=g) @ torch.randn(4, shape[1], generator=g)
    two = {name: (value + 0.1 * factors).bfloat16() for name, value in one.items()}
    bare(tmp_path / "base", one)
    bare(tmp_path / "tuned", two)
    done = subprocess.run([sys.executable, "-c", EXTRACTING, str(tmp_path), str(rank)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    start, peak = map(int, done.stdout.split())
    assert (peak - start) * 1024 < most


@pytest.mark.parametrize("experts", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_lies_between_two_files_is_what_it_is_in_memory(
    experts: bool, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("checkpoint.stream.BLOCK", "algebra.operator.BLOCK"):
        monkeypatch.setattr(f"adaptr.{name}", 600)
    monkeypatch.setattr("adaptr.algebra.truncate.SMALL", 8)
    g = torch.Generator().manual_seed(0)
    shape = (3, 40, 24) if experts else (40, 24)
    one, two = (torch.randn(shape, generator=g).to(dtype) for _ in range(2))
    folders = [bare(tmp_path / name, {"w": tensor}) for name, tensor in (("a", one), ("b", two))]
    before, after = (open_checkpoint(folder).tensors["w"] for folder in folders)
    wide = dtype if dtype is torch.float64 else torch.float32
    held = Dense(two.to(wide) - one.to(wide), experts=experts)
    x, y = (torch.randn((*shape[:-2], 5, n), generator=g).to(wide) for n in (24, 40))
    with between(before, after, experts) as D:
        assert len(list(D.blocks())) > 1
        found = [D.product(x), D.back(y), D.norm()]
        assert len(D._after._buffer) <= 600 * dtype.itemsize, "no more than a block is read, of a stack of experts too"
        assert torch.equal(D.dense(), held.dense())
        if not experts:
            for columns in (slice(3, 9), torch.tensor([5, 0])):
                assert torch.equal(D.cols(columns), held.cols(columns))
        for one, two in zip(found, (held.product(x), held.back(y), torch.tensor(held.norm())), strict=True):
            assert torch.allclose(torch.as_tensor(one).to(wide), two.to(wide), rtol=1e-5, atol=1e-5)
        low, error, square = truncated(D, 3, None)
        wanted, exact, all_of_it = truncated(held, 3, None)
        assert torch.allclose(low.dense(), wanted.dense(), atol=1e-3)
        assert (error, square) == pytest.approx((exact, all_of_it), rel=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_large_weights_are_extracted_as_small_ones_are(
    kind: str, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPT-2's weights and all tables are stored the other way round."""
    base, tuned = pair(kind)
    small = extract(base, tuned, tmp_path / "small.safetensors", rank=6)
    monkeypatch.setattr("adaptr.extracting.job.BLOCK", 0)
    monkeypatch.setattr("adaptr.algebra.truncate.SMALL", 0)
    large = extract(base, tuned, tmp_path / "large.safetensors", rank=6)
    assert large.error == pytest.approx(small.error, rel=1e-2, abs=1e-5)
    one, two = (api.load(tmp_path / f"{name}.safetensors") for name in ("small", "large"))
    assert {p: t.shape for p, t in one.targets.items()} == {p: t.shape for p, t in two.targets.items()}
    for path in one.targets:
        assert torch.allclose(one[path].dense(), two[path].dense(), atol=2e-2)
