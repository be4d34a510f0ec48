"""Adapters out of checkpoint pairs: attached or merged they are the tuned model, up to the error that is declared."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import checkpoints
from adaptr import api, errors
from adaptr.algebra.dense import Dense
from adaptr.algebra.truncate import truncated
from adaptr.changes.deltas import deltas
from adaptr.checkpoint.open import open_checkpoint
from adaptr.extracting.between import between
from adaptr.extracting.extract import ExtractReport, extract
from checkpoints import bare, model_of, tensors_of

Pair = Callable[..., tuple[Path, Path]]
KINDS = ["llama", "gpt2", "qwen2", "bert"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A base and a copy with every parameter moved; made once a kind."""
    made: dict[tuple[str, str], tuple[Path, Path]] = {}

    def build(kind: str, dtype: torch.dtype = torch.float32) -> tuple[Path, Path]:
        key = (kind, str(dtype))
        if key not in made:
            root = tmp_path_factory.mktemp(kind)
            base = checkpoints.saved(kind, root / "base", dtype, shard="40KB")
            model = model_of(base)
            g = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for p in model.parameters():
                    p.add_((0.05 * torch.randn(p.shape, generator=g)).to(p.dtype))
            model.save_pretrained(root / "tuned")
            made[key] = (base, root / "tuned")
        return made[key]

    return build


def edited(base: Path, folder: Path, **changes: Tensor | None) -> Path:
    """A copy of a checkpoint with some tensors (`__` for `.`) changed, added or removed."""
    tensors = tensors_of(base)
    for name, value in changes.items():
        key = name.replace("__", ".")
        tensors.pop(key, None)
        if value is not None:
            tensors[key] = value
    return bare(folder, tensors, json.loads((base / "config.json").read_text()))


@pytest.mark.parametrize("kind", KINDS)
def test_at_full_rank_the_attached_adapter_is_the_tuned_model(kind: str, pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair(kind)
    report = extract(base, tuned, tmp_path / "x.safetensors", rank=32)
    assert report.error < 1e-5
    model = model_of(base)
    with torch.no_grad():
        api.attach(model, api.load(tmp_path / "x.safetensors"))
    assert torch.allclose(checkpoints.logits(model, kind), checkpoints.logits(model_of(tuned), kind), atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_merged_it_misses_the_tuned_weights_by_the_declared_error(kind: str, pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair(kind)
    report = extract(base, tuned, tmp_path / "x.safetensors", rank=4)
    api.merge(base, [tmp_path / "x.safetensors"], tmp_path / "merged", receipt=False)
    assert_missed_by(report, base, tuned, tmp_path / "merged", set(api.load(tmp_path / "x.safetensors").targets))
    assert report.ranks == {4: report.targets}


def assert_missed_by(report: ExtractReport, base: Path, tuned: Path, merged: Path, targets: set[str]) -> None:
    before, want, got = tensors_of(base), tensors_of(tuned), tensors_of(merged)
    weights = [name for name in want if name.removesuffix(".weight") in targets]
    missed = math.sqrt(sum(float((got[n] - want[n]).double().square().sum()) for n in weights))
    moved = math.sqrt(sum(float((want[n] - before[n]).double().square().sum()) for n in weights))
    assert missed / moved == pytest.approx(report.error, rel=1e-4)
    for name in set(want) - set(weights):
        assert torch.allclose(got[name], want[name], atol=1e-6), name


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_diff_finds_the_tuned_checkpoint_in_it(kind: str, pair: Pair, tmp_path: Path) -> None:
    from adaptr.diffing.diff import diff

    base, tuned = pair(kind)
    extract(base, tuned, tmp_path / "x.safetensors", rank=32)
    found = diff(tmp_path / "x.safetensors", tuned, base)
    assert {t.path for t in found.targets} >= set(api.load(tmp_path / "x.safetensors").targets)
    assert all(t.difference < 1e-5 * t.norm_a for t in found.targets)


def test_tied_weights_change_in_both_uses_and_merge_untied(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("gpt2")
    report = extract(base, tuned, tmp_path / "x.safetensors", rank=32)
    assert any("untie" in note for note in report.notes)
    assert {"lm_head", "transformer.wte"} <= set(api.load(tmp_path / "x.safetensors").targets)
    with pytest.raises(errors.TiedWeights):
        api.merge(base, [tmp_path / "x.safetensors"], tmp_path / "merged")
    api.merge(base, [tmp_path / "x.safetensors"], tmp_path / "merged", tied="untie", receipt=False)
    got, want = (checkpoints.logits(model_of(p), "gpt2") for p in (tmp_path / "merged", tuned))
    assert torch.allclose(got, want, atol=1e-4)


def test_each_error_is_that_of_the_dense_optimum(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama")
    report = extract(base, tuned, tmp_path / "x.safetensors", rank=3)
    one, two = tensors_of(base), tensors_of(tuned)
    for fitted in report.worst:
        S = torch.linalg.svdvals((two[f"{fitted.path}.weight"] - one[f"{fitted.path}.weight"]).double())
        assert fitted.error == pytest.approx(float(S[3:].norm() / S.norm()), rel=1e-4)


def test_energy_keeps_its_share_everywhere(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama")
    report = extract(base, tuned, tmp_path / "x.safetensors", energy=0.9)
    assert all(f.error**2 <= 0.1 + 1e-6 for f in report.worst)
    assert report.error > 0.1


def test_half_precision_checkpoints_are_subtracted_in_fp32(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama", torch.bfloat16)
    extract(base, tuned, tmp_path / "x.safetensors", rank=32)
    made = deltas(api.load(tmp_path / "x.safetensors"))
    one, two = tensors_of(base), tensors_of(tuned)
    for path in made:
        D = two[f"{path}.weight"].float() - one[f"{path}.weight"].float()
        D = D.T if made.targets[path].transposed else D
        assert torch.allclose(made[path].dense(), D, atol=1e-5)


def test_what_did_not_change_is_left_out(pair: Pair, tmp_path: Path) -> None:
    base, _ = pair("llama")
    name = "model.layers.0.mlp.up_proj.weight"
    moved = edited(base, tmp_path / "t", **{name.replace(".", "__"): tensors_of(base)[name] + 1})
    report = extract(base, moved, tmp_path / "x.safetensors", rank=1)
    adapter = api.load(tmp_path / "x.safetensors")
    assert list(adapter.targets) == ["model.layers.0.mlp.up_proj"]
    assert report.unchanged == len(tensors_of(base)) - 1
    assert report.error < 1e-6  # a constant matrix has rank 1
    with pytest.raises(errors.NothingChanged):
        extract(base, base, tmp_path / "y.safetensors", rank=1)


def test_choices_for_norms_biases_and_tables(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("qwen2")
    out = tmp_path / "x.safetensors"
    report = extract(base, tuned, out, rank=2)
    assert report.biases == 6
    assert report.replaced
    assert all("norm" in name for name in report.replaced)
    assert report.dropped == ()
    report = extract(base, tuned, out, rank=2, rest="drop", biases="drop", embeddings="drop", force=True)
    adapter = api.load(out)
    assert (report.biases, report.replaced, adapter.replaced) == (0, (), {})
    assert "model.embed_tokens" not in adapter.targets
    assert "model.embed_tokens.weight" in report.dropped
    assert sum("bias" in name for name in report.dropped) == 6
    report = extract(base, tuned, out, rank=2, biases="replace", embeddings="replace", force=True)
    assert sum(name.endswith(".bias") for name in report.replaced) == 6
    assert torch.equal(
        api.load(out).replaced["model.embed_tokens.weight"], tensors_of(tuned)["model.embed_tokens.weight"]
    )


def test_a_vocabulary_that_grew_is_replaced(pair: Pair, tmp_path: Path) -> None:
    base, _ = pair("llama")
    name = "model.embed_tokens.weight"
    table = torch.cat([tensors_of(base)[name], torch.ones(3, 32)])
    grown = edited(base, tmp_path / "t", **{name.replace(".", "__"): table, "new_head__weight": torch.ones(2, 32)})
    report = extract(base, grown, tmp_path / "x.safetensors", rank=1)
    assert report.replaced == (name, "new_head.weight")
    assert torch.equal(api.load(tmp_path / "x.safetensors").replaced[name], table)
    assert any("resize" in note for note in report.notes)


def test_the_bytes_repeat_and_name_both_parents(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama")
    for name in ("one", "two"):
        extract(base, tuned, tmp_path / name, rank=2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    lineage = api.load(tmp_path / "one").lineage
    assert [p["role"] for p in lineage["parents"]] == ["base", "tuned"]
    assert len({p["digest"] for p in lineage["parents"]}) == 2
    assert str(tmp_path) not in json.dumps(lineage)


def test_the_base_is_known_by_its_weights(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama")
    extract(base, tuned, tmp_path / "x.safetensors", rank=2)
    with pytest.raises(errors.ContentMismatch):
        api.merge(tuned, [tmp_path / "x.safetensors"], tmp_path / "merged")


def test_without_a_configuration_names_and_shapes_decide(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    one = {"model.embed_tokens.weight": torch.randn(20, 8, generator=g), "q.weight": torch.randn(6, 8, generator=g)}
    two = {key: value + torch.randn(value.shape, generator=g) for key, value in one.items()}
    base, tuned = bare(tmp_path / "a", one), bare(tmp_path / "b", two)
    extract(base, tuned, tmp_path / "x.safetensors", rank=8)
    targets = api.load(tmp_path / "x.safetensors").targets
    assert {p: (t.kind, t.shape) for p, t in targets.items()} == {
        "model.embed_tokens": ("embedding", (8, 20)),
        "q": ("linear", (6, 8)),
    }
    api.merge(base, [tmp_path / "x.safetensors"], tmp_path / "merged", receipt=False)
    assert all(torch.allclose(tensors_of(tmp_path / "merged")[k], two[k], atol=1e-5) for k in two)


def test_checkpoints_of_other_models(pair: Pair, tmp_path: Path) -> None:
    base, _ = pair("llama")
    out = tmp_path / "x.safetensors"
    less = edited(base, tmp_path / "less", model__norm__weight=None)
    with pytest.raises(errors.WrongBase, match=r"model\.norm\.weight"):
        extract(base, less, out, rank=2)
    wide = edited(base, tmp_path / "wide", model__layers__0__mlp__up_proj__weight=torch.ones(48, 33))
    with pytest.raises(errors.WrongBase, match=r"\(48, 33\)"):
        extract(base, wide, out, rank=2)
    broken = edited(base, tmp_path / "nan", model__norm__weight=torch.full((32,), math.nan))
    with pytest.raises(errors.NonFinite, match=r"model\.norm\.weight"):
        extract(base, broken, out, rank=2)
    assert not out.exists()


@pytest.mark.parametrize("rank", [0, -3, 33])
def test_ranks_that_no_weight_has(rank: int, pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama")
    with pytest.raises(errors.BadConfig, match="rank"):
        extract(base, tuned, tmp_path / "x.safetensors", rank=rank)


def test_dropping_all_that_changed_is_no_adapter(pair: Pair, tmp_path: Path) -> None:
    base, _ = pair("llama")
    moved = edited(base, tmp_path / "t", model__norm__weight=torch.zeros(32))
    with pytest.raises(errors.NothingChanged, match=r"model\.norm\.weight"):
        extract(base, moved, tmp_path / "x.safetensors", rank=2, rest="drop")


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


def test_norms_or_biases_alone_make_an_adapter(pair: Pair, tmp_path: Path) -> None:
    base, _ = pair("qwen2")
    norm, bias = "model.norm.weight", "model.layers.0.self_attn.q_proj.bias"
    for name in (norm, bias):
        value = tensors_of(base)[name] + 0.5
        moved = edited(base, tmp_path / f"t-{name}", **{name.replace(".", "__"): value})
        out = tmp_path / f"{name}.safetensors"
        report = extract(base, moved, out, rank=2)
        assert (report.targets, report.error, len(report.replaced), report.biases) == (0, 0, name == norm, name == bias)
        api.merge(base, [out], tmp_path / f"m-{name}", receipt=False)
        assert torch.allclose(tensors_of(tmp_path / f"m-{name}")[name], value)


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
