"""What is reported is what is stored: composed, converted, resized and extracted, in every dtype."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
import checkpoints
from adaptr import Adapter
from adaptr.changes.deltas import deltas
from adaptr.errors import NonFinite, UsageError


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(24, 16, bias=False)


def lora(dtype: torch.dtype, seed: int, **config: Any) -> Adapter:
    made = adaptr.create(Model(), "lora", ["fc"], **{"r": 3, "alpha": 8.0, **config})
    g = torch.Generator().manual_seed(seed)
    tensors = {key: torch.randn(t.shape, generator=g).to(dtype) for key, t in made.tensors.items()}
    return made.replace(tensors=tensors, base=adaptr.Base(), name=f"a{seed}")


def dense(adapter: Adapter) -> torch.Tensor:
    (op,) = deltas(adapter).values()
    return op.dense(torch.float64)


def real(found: Adapter, wanted: torch.Tensor) -> float:
    return float((dense(found) - wanted).norm() / wanted.norm())


HALF = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
@pytest.mark.parametrize("strategy", ["linear", "cat", "task-arithmetic", "svd", "ties", "dare", "fedex", "lego"])
def test_results_are_in_the_wider_of_fp32_and_the_inputs(strategy: str, dtype: torch.dtype) -> None:
    options = {"rank": 4} if strategy == "svd" else {"density": 1.0} if strategy in {"ties", "dare"} else {}
    made = adaptr.compose([(lora(dtype, 1), 0.7), (lora(torch.bfloat16, 2), 0.3)], strategy, **options).adapter
    found = {t.dtype for t in made.tensors.values()}
    assert found == {torch.float64 if dtype is torch.float64 else torch.float32}


@pytest.mark.parametrize("dtype", HALF)
def test_a_weighted_sum_of_halves_is_exact(dtype: torch.dtype) -> None:
    a, b = lora(dtype, 1), lora(dtype, 2)
    wanted = 0.7 * dense(a) - 0.3 * dense(b)
    for made in (adaptr.compose([(a, 0.7), (b, -0.3)]).adapter, (0.7 * a - 0.3 * b).adapter()):
        assert real(made, wanted) < 1e-6


def test_fp64_is_not_narrowed() -> None:
    a, b = lora(torch.float64, 1), lora(torch.float64, 2)
    for strategy, options in (("linear", {}), ("svd", {"rank": 6}), ("ties", {"density": 1.0}), ("della", {})):
        made = adaptr.compose([(a, 1.0)], strategy, **options)
        if strategy != "della":
            assert real(made.adapter, dense(a)) < 1e-12
    assert real(adaptr.compose([(a, 0.7), (b, -0.3)]).adapter, 0.7 * dense(a) - 0.3 * dense(b)) < 1e-12


@pytest.mark.parametrize("dtype", ["bf16", "fp16", torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"rank": 2}, {"strategy": "ties", "density": 0.5}])
def test_the_error_of_a_composition_is_that_of_what_is_stored(dtype: Any, options: dict[str, Any]) -> None:
    given = [(lora(torch.float32, 1), 0.7), (lora(torch.float32, 2), -0.3)]
    exact = adaptr.compose(given, **{k: v for k, v in options.items() if k != "rank"})
    made = adaptr.compose(given, dtype=dtype, **options)
    assert {t.dtype for t in made.adapter.tensors.values()} <= set(HALF)
    assert made.report.error == pytest.approx(real(made.adapter, dense(exact.adapter)), rel=1e-2)
    assert made.report.errors["fc"][0] == pytest.approx(made.report.error)


@pytest.mark.parametrize("strategy", ["linear", "cat", "task-arithmetic"])
@pytest.mark.parametrize(("dtype", "by", "least"), [(torch.float32, 1e-6, 1e-3), (torch.bfloat16, 2**-7, 1e-6)])
def test_rounding_counts_where_terms_cancel(strategy: str, dtype: torch.dtype, by: float, least: float) -> None:
    """0.7 a - 0.7 b of nearly equal adapters: fp32 holds the terms, and little of what is left of them."""
    a, b = lora(dtype, 1), nearly(lora(dtype, 1), by)
    made = adaptr.compose([(a, 0.7), (b, -0.7)], strategy)
    error = real(made.adapter, 0.7 * (dense(a) - dense(b)))
    assert error > least
    assert made.report.error == pytest.approx(error, rel=1e-2)


@pytest.mark.parametrize("strategy", ["linear", "task-arithmetic"])
def test_dense_terms_that_cancel_leave_what_is_right(strategy: str) -> None:
    """Formed in fp64 and rounded once: nothing is lost, and none is reported."""
    D = torch.randn(16, 24, generator=torch.Generator().manual_seed(1))
    a = adaptr.create(Model(), "full", ["fc"]).replace(tensors={"fc:D": D}, base=adaptr.Base(), name="a")
    b = nearly(a, 1e-6)
    made = adaptr.compose([(a, 0.3), (b, -0.3)], strategy)
    assert real(made.adapter, 0.3 * (dense(a) - dense(b))) < 1e-7
    assert made.report.error == 0.0


@pytest.mark.parametrize("options", [{}, {"rank": 2}, {"strategy": "ties"}, {"strategy": "iso-c"}])
@pytest.mark.parametrize("by", [1.0, 1e-3])
def test_the_distance_from_the_sum_is_that_of_what_is_stored(options: dict[str, Any], by: float) -> None:
    """`by` 1e-3: the two cancel, and bf16 holds nothing of what is left."""
    a, b = lora(torch.float32, 1), nearly(lora(torch.float32, 1), by)
    given = [(a, 0.7), (b, -0.7)]
    made = adaptr.compose(given, **{"strategy": "task-arithmetic", "dtype": "bf16", **options})
    distance = real(made.adapter, 0.7 * (dense(a) - dense(b)))
    assert made.report.distance == pytest.approx(distance, rel=1e-4)
    assert made.report.errors["fc"][1] == pytest.approx(distance, rel=1e-4)


@pytest.mark.parametrize("strategy", ["slerp", "karcher"])
def test_rounding_counts_where_directions_cancel(strategy: str) -> None:
    """Of nearly opposite deltas little is left in the middle, by large coefficients."""
    a = lora(torch.bfloat16, 1)
    b = nearly(a, 0.01)
    b = b.replace(tensors={key: -t if key.endswith("B") else t for key, t in b.tensors.items()})
    made = adaptr.compose([(a, 0.5), (b, 0.5)], strategy)
    size = float(dense(a).norm() + dense(b).norm()) / 2
    one, two = dense(a) / dense(a).norm(), dense(b) / dense(b).norm()
    if strategy == "karcher":
        wanted = size * (one + two) / (one + two).norm()
    else:
        half = math.acos(float((one * two).sum())) / 2
        wanted = math.sin(half) / math.sin(2 * half) * (dense(a) + dense(b))
    error = real(made.adapter, wanted)
    assert error > 1e-6
    assert made.report.error == pytest.approx(error, rel=0.1)


def nearly(a: Adapter, by: float) -> Adapter:
    g = torch.Generator().manual_seed(7)
    near = {
        key: (t.double() * (1 + by * torch.randn(t.shape, generator=g))).to(t.dtype) for key, t in a.tensors.items()
    }
    return a.replace(tensors=near, name="b")


def test_what_a_dtype_does_not_hold_is_refused() -> None:
    a = lora(torch.float32, 1)
    big = a.replace(tensors={key: 1e4 * t for key, t in a.tensors.items()})
    with pytest.raises(NonFinite, match=r"`fc` would overflow.*float16"):
        adaptr.compose([big], dtype="fp16")
    with pytest.raises(UsageError, match="wanted one of fp64"):
        adaptr.compose([a], dtype="int8")


def test_a_recipe_names_a_dtype(tmp_path: Path) -> None:
    adaptr.save(lora(torch.float32, 1), tmp_path / "a.safetensors")
    (tmp_path / "r.yaml").write_text("dtype: bf16\ninputs: [{adapter: a.safetensors, weight: 0.3}]\n")
    made = adaptr.compose(tmp_path / "r.yaml")
    assert {t.dtype for t in made.adapter.tensors.values()} == {torch.bfloat16}
    assert made.adapter.lineage["arguments"]["dtype"] == "bf16"


# ---------------------------------------------------------------- from file to file


def converted(source: Path, out: Path, **options: Any) -> Any:
    return adaptr.convert_method(source, out, **options)


def as_full(source: Path, out: Path, **options: Any) -> Any:
    return adaptr.convert_method(source, out, "full", **options)


def resized(source: Path, out: Path, **options: Any) -> Any:
    return adaptr.resize(source, out, rank=2, **options)


def for_vllm(source: Path, out: Path, **options: Any) -> Any:
    named = adaptr.load(source).renamed({"fc": "model.layers.0.self_attn.q_proj"})
    adaptr.save(named, source.with_name("named"))
    return adaptr.api.serve(source.with_name("named"), out, "vllm", **options)


@pytest.mark.parametrize("dtype", [None, "bf16", "fp16"])
@pytest.mark.parametrize("write", [converted, as_full, resized, for_vllm])
def test_the_error_of_a_conversion_is_that_of_what_is_stored(
    write: Callable[..., Any], dtype: str | None, tmp_path: Path
) -> None:
    source = lora(torch.bfloat16, 1, alpha=7.0)
    adaptr.save(source, tmp_path / "a.safetensors")
    report = write(tmp_path / "a.safetensors", tmp_path / "out", dtype=dtype)
    made = adaptr.load(tmp_path / "out")
    error = real(made, dense(source))
    assert report.error == pytest.approx(error, rel=1e-2, abs=1e-6)
    wanted = {None: torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    assert {t.dtype for t in made.tensors.values()} == {wanted}


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_the_error_of_an_extraction_is_that_of_what_is_stored(dtype: str | None, tmp_path: Path) -> None:
    base = checkpoints.saved("llama", tmp_path / "base")
    tensors, path = checkpoints.tensors_of(base), "model.layers.0.self_attn.q_proj"
    before = tensors[f"{path}.weight"].double()
    tensors[f"{path}.weight"] += torch.randn(32, 2) @ torch.randn(2, 32)
    moved = tensors[f"{path}.weight"].double() - before
    tuned = checkpoints.bare(tmp_path / "tuned", tensors, json.loads((base / "config.json").read_text()))
    report = adaptr.extract(base, tuned, tmp_path / "out", rank=2, dtype=dtype)
    made = adaptr.load(tmp_path / "out")
    assert {t.dtype for t in made.tensors.values()} == {torch.bfloat16 if dtype else torch.float32}
    found = deltas(made)[path].dense(torch.float64)
    assert report.error == pytest.approx(float((found - moved).norm() / moved.norm()), rel=1e-2, abs=1e-6)
