"""Lower ranks and other methods, against dense SVDs and dense deltas."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import checkpoints
from adaptr import api, errors, plugins
from adaptr.adapter import Adapter, Target
from adaptr.changes.deltas import deltas
from adaptr.converting.resize import convert_method, deltas_of, lowered, resize
from checkpoints import lora_at

PLACES = {
    "linear": Target("q", "linear", (12, 10)),
    "linear_t": Target("q", "linear_t", (12, 10)),
    "embedding": Target("q", "embedding", (12, 20)),
    "conv2d": Target("q", "conv2d", (12, 4, 3, 3)),
    "experts": Target("q", "experts", (3, 12, 10)),
}


def saved(folder: Path, adapter: Adapter, name: str = "a") -> Path:
    api.save(adapter, folder / f"{name}.safetensors", force=True)
    return folder / f"{name}.safetensors"


def dense(adapter: Adapter, path: str = "q") -> Tensor:
    return deltas(adapter)[path].dense(torch.float64)


def at(target: Target, method: str, seed: int = 0, **config: Any) -> Adapter:
    """An adapter of a method at one place, with random tensors."""
    made = plugins.method(method)
    values = vars(made.config(config)).copy()
    place = Target(target.path, target.kind, target.shape, values)
    g = torch.Generator().manual_seed(seed)
    tensors = {f"q:{name}": torch.randn(shape, generator=g) for name, shape in made.shapes(place).items()}
    return Adapter(method, values, {"q": place}, tensors, made.version)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 5))
def test_the_error_is_that_of_the_best_approximation(seed: int, r: int, k: int) -> None:
    op = deltas(lora_at(PLACES["linear"], seed, r=r))["q"]
    low, error = lowered(op, k, None, "q")
    D = op.dense(torch.float64)
    S = torch.linalg.svdvals(D)
    assert error == pytest.approx(float(S[k:].norm() / S.norm()), abs=1e-6)
    assert float((low.dense(torch.float64) - D).norm() / D.norm()) == pytest.approx(error, abs=1e-5)
    assert low.rank == min(k, r)


@pytest.mark.parametrize("kind", PLACES)
def test_every_kind_of_layer(kind: str, tmp_path: Path) -> None:
    adapter = lora_at(PLACES[kind], r=4)
    report = resize(saved(tmp_path, adapter), tmp_path / "out.safetensors", rank=2)
    made = api.load(tmp_path / "out.safetensors")
    before, after = dense(adapter), dense(made)
    assert made.targets["q"].config["r"] == 2
    assert float((after - before).norm() / before.norm()) == pytest.approx(report.error, rel=1e-4)
    flat = before.flatten(2) if kind == "experts" else before.flatten(1)
    S = torch.linalg.svdvals(flat)
    assert report.error == pytest.approx(float(S[..., 2:].norm() / S.norm()), rel=1e-4)
    assert not report.exact


def test_energy_chooses_the_smallest_rank_that_keeps_it(tmp_path: Path) -> None:
    adapter = lora_at(PLACES["linear"], r=6)
    report = resize(saved(tmp_path, adapter), tmp_path / "out.safetensors", energy=0.8)
    S = torch.linalg.svdvals(dense(adapter)).square()
    kept = (S.cumsum(0) / S.sum()).tolist()
    wanted = next(k for k, share in enumerate(kept, 1) if share >= 0.8)
    assert report.ranks == {wanted: 1}
    assert report.error**2 == pytest.approx(1 - kept[wanted - 1], abs=1e-6)
    assert [(f.path, f.rank) for f in report.worst] == [("q", wanted)]


def test_biases_replaced_parameters_and_words_go_along(tmp_path: Path) -> None:
    adapter = lora_at(PLACES["linear"], r=4, bias=True)
    head = torch.randn(3, 4)
    adapter = adapter.replace(
        tensors={**adapter.tensors, "head.weight:=": head}, name="style", license="MIT", tags=("x",)
    )
    report = resize(saved(tmp_path, adapter), tmp_path / "out.safetensors", rank=1)
    made = api.load(tmp_path / "out.safetensors")
    assert (made.name, made.license, made.tags) == ("style", "MIT", ("x",))
    assert torch.equal(made.replaced["head.weight"], head)
    assert torch.allclose(deltas(made).biases["q"], deltas(adapter).biases["q"])
    assert (report.biases, report.replaced) == (1, ("head.weight",))


def test_lineage_names_the_parent_by_digest_and_the_bytes_repeat(tmp_path: Path) -> None:
    from adaptr.format import digest

    a = saved(tmp_path, lora_at(PLACES["linear"], r=4))
    for name in ("one", "two"):
        resize(a, tmp_path / name, rank=2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    lineage = api.load(tmp_path / "one").lineage
    assert lineage["operation"] == "resize"
    assert lineage["arguments"] == {"method": "lora", "rank": 2}
    weights = digest.of_adapter(api.load(a))
    assert lineage["parents"] == [{"digest": digest.of_file(a), "format": "adaptr", "weights": weights}]


@pytest.mark.parametrize(
    ("rank", "energy", "error"),
    [
        (0, None, errors.BadConfig),
        (-1, None, errors.BadConfig),
        (4, None, errors.BadConfig),
        (99, None, errors.BadConfig),
        (None, 0.0, errors.BadConfig),
        (None, 1.5, errors.BadConfig),
        (None, math.nan, errors.BadConfig),
        (None, None, errors.UsageError),
    ],
)
def test_ranks_that_make_no_sense(
    rank: int | None, energy: float | None, error: type[Exception], tmp_path: Path
) -> None:
    a = saved(tmp_path, lora_at(PLACES["linear"], r=4))
    with pytest.raises(error):
        resize(a, tmp_path / "out.safetensors", rank=rank, energy=energy)
    assert not (tmp_path / "out.safetensors").exists()


def test_nothing_is_overwritten_and_nan_is_refused(tmp_path: Path) -> None:
    adapter = lora_at(PLACES["linear"], r=4)
    a = saved(tmp_path, adapter)
    with pytest.raises(errors.OutputExists):
        resize(a, a, rank=2)
    bad = saved(tmp_path, adapter.replace(tensors={**adapter.tensors, "q:A": torch.full((4, 10), math.inf)}), "bad")
    with pytest.raises(errors.NonFinite):
        resize(bad, tmp_path / "out.safetensors", rank=2)


# ---------------------------------------------------------------- other methods

EXACT = [
    ("lora", {"r": 3, "rslora": True}),
    ("adalora", {}),
    ("loha", {"r": 2}),
    ("loha", {"r": 4}),  # r² is more than the matrix has columns
    ("lokr", {"r": 2, "a": 3, "b": 4, "c": 2, "d": 5, "w1_full": True, "w2_full": False}),
]


@pytest.mark.parametrize(("method", "config"), EXACT, ids=lambda x: str(x))
def test_methods_with_factors_convert_exactly(method: str, config: dict[str, Any], tmp_path: Path) -> None:
    adapter = at(PLACES["linear"], method, **config)
    report = convert_method(saved(tmp_path, adapter), tmp_path / "out.safetensors", "lora")
    made = api.load(tmp_path / "out.safetensors")
    before, after = dense(adapter), dense(made)
    assert float((after - before).norm() / before.norm()) < 1e-5
    assert report.exact
    assert made.method == "lora"
    assert made.targets["q"].config["r"] <= 10
    assert not made.targets["q"].config["rslora"]


@pytest.mark.parametrize("method", ["vera", "adalora", "loha", "lokr"])
def test_so_do_whole_adapters(method: str, tmp_path: Path) -> None:
    base = checkpoints.saved("llama", tmp_path / "base")
    adapter = checkpoints.randomised(base, method, ["attn.q", "attn.v"])
    convert_method(saved(tmp_path, adapter), tmp_path / "out.safetensors", "lora")
    before, after = deltas(adapter), deltas(api.load(tmp_path / "out.safetensors"))
    assert set(before) == set(after)
    for path in before:
        D = before[path].dense(torch.float64)
        assert float((after[path].dense(torch.float64) - D).norm() / D.norm()) < 1e-5


@pytest.mark.parametrize("method", ["oft", "ia3"])
def test_transforms_have_no_exact_factors(method: str, tmp_path: Path) -> None:
    base = checkpoints.saved("llama", tmp_path / "base")
    a = saved(tmp_path, checkpoints.randomised(base, method, ["attn.q"]))
    with pytest.raises(errors.NotPossible, match="rank=R"):
        convert_method(a, tmp_path / "out.safetensors", "lora", base=base)
    report = convert_method(a, tmp_path / "out.safetensors", "lora", rank=4, base=base)
    assert 0 < report.error < 1


def test_a_full_delta_has_no_exact_factors_and_says_so(tmp_path: Path) -> None:
    adapter = at(PLACES["linear"], "full")
    a = saved(tmp_path, adapter)
    with pytest.raises(errors.NotPossible, match="rank=R"):
        convert_method(a, tmp_path / "out.safetensors", "lora")
    report = convert_method(a, tmp_path / "out.safetensors", "lora", rank=3)
    S = torch.linalg.svdvals(dense(adapter))
    assert report.error == pytest.approx(float(S[3:].norm() / S.norm()), rel=1e-5)
    back = convert_method(saved(tmp_path, lora_at(PLACES["linear"]), "l"), tmp_path / "full.safetensors", "full")
    assert back.exact
    assert torch.allclose(dense(api.load(tmp_path / "full.safetensors")), dense(lora_at(PLACES["linear"])), atol=1e-6)


def test_a_transform_is_converted_against_its_base(tmp_path: Path) -> None:
    base = checkpoints.saved("llama", tmp_path / "base")
    adapter = checkpoints.randomised(base, "dora", ["attn.q"])
    a = saved(tmp_path, adapter)
    with pytest.raises(errors.NoDelta, match="base"):
        convert_method(a, tmp_path / "out.safetensors", "lora", rank=8)
    report = convert_method(a, tmp_path / "out.safetensors", "lora", rank=8, base=base)
    path = next(iter(adapter.targets))
    true = deltas_of(adapter, base)[path].dense(torch.float64)
    made = deltas(api.load(tmp_path / "out.safetensors"))[path].dense(torch.float64)
    fitted = next(f for f in report.worst if f.path == path)
    assert float((made - true).norm() / true.norm()) == pytest.approx(fitted.error, rel=1e-3)
    with pytest.raises(errors.NotPossible, match="rank=R"):
        convert_method(a, tmp_path / "exact.safetensors", "lora", base=base)


def test_the_other_format_takes_the_other_method(tmp_path: Path) -> None:
    a = saved(tmp_path, lora_at(Target("model.layers.0.q_proj", "linear", (12, 10)), r=3))
    report = convert_method(a, tmp_path / "peft", "lora", to="peft", rank=2)
    assert (report.format, report.lost) == ("peft", ())
    assert api.load(tmp_path / "peft").targets["model.layers.0.q_proj"].config["r"] == 2


def test_methods_that_no_delta_becomes(tmp_path: Path) -> None:
    a = saved(tmp_path, lora_at(PLACES["linear"]))
    with pytest.raises(errors.Unsupported, match="`dora`"):
        convert_method(a, tmp_path / "out.safetensors", "dora")
    with pytest.raises(errors.UnknownMethod):
        convert_method(a, tmp_path / "out.safetensors", "lorra")
    with pytest.raises(errors.UsageError):
        convert_method(a, tmp_path / "out.safetensors", "full", rank=2)


REAL = Path(os.environ.get("ADAPTR_SHARED", Path(__file__).resolve().parents[2].parent / "shared")) / "real"


@pytest.mark.parametrize(
    ("name", "replaced"),
    [("peft-lora-distilbert-emotion", 4), ("peft-lora-gpt2-tigrinya", 0), ("peft-lora-gemma3-270m", 0)],
)
def test_real_adapters_lose_what_is_declared(name: str, replaced: int, tmp_path: Path) -> None:
    from adaptr.diffing.diff import diff

    if not (REAL / name).is_dir():
        pytest.skip(f"there is no real adapter at {REAL / name}")
    report = resize(REAL / name, tmp_path / "out.safetensors", rank=2)
    found = diff(REAL / name, tmp_path / "out.safetensors")
    lost = sum(t.difference**2 for t in found.targets) / sum(t.norm_a**2 for t in found.targets)
    assert lost**0.5 == pytest.approx(report.error, rel=1e-6)
    assert len(report.replaced) == replaced
    assert found.others == ()
