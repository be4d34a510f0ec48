"""Prompts of tasks like another's: by cosines, in a list or in the store, and their mean to begin from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adaptr
import tiny
from adaptr.cli import run
from adaptr.errors import NonFinite, TargetMismatch, Unsupported, UsageError
from adaptr.testing import assert_close


def prompt(rows: Any, name: str) -> adaptr.Adapter:
    made = adaptr.create(tiny.model("llama"), "prompt", tokens=len(rows), init="normal", name=name)
    return made.replace(tensors={":P": torch.tensor(rows, dtype=torch.float32)})


def of(seed: int, name: str, tokens: int = 4) -> adaptr.Adapter:
    return prompt(np.random.default_rng(seed).normal(size=(tokens, tiny.WIDTH)), name)


def by_hand(P: Any, Q: Any, metric: str) -> float:
    if metric == "mean":
        p, q = P.mean(0), Q.mean(0)
        return float(p @ q / np.linalg.norm(p) / np.linalg.norm(q))
    pairs = [p @ q / np.linalg.norm(p) / np.linalg.norm(q) for p in P for q in Q]
    return float(np.mean(pairs))


@pytest.mark.parametrize("metric", ["mean", "pairs"])
def test_it_is_the_papers_cosines(metric: Any) -> None:
    target, sources = of(0, "t"), [of(seed, str(seed)) for seed in range(1, 6)]
    found = adaptr.similar(target, sources, 5, metric)
    rows = target.tensors[":P"].double().numpy()
    wanted = sorted((by_hand(rows, s.tensors[":P"].double().numpy(), metric) for s in sources), reverse=True)
    assert [one.similarity for one in found] == pytest.approx(wanted, abs=1e-6)
    positive = sum(max(one, 0.0) for one in wanted)
    assert [one.weight for one in found] == pytest.approx([max(one, 0.0) / positive for one in wanted], abs=1e-6)


def test_a_text_is_one_source(tmp_path: Path) -> None:
    adaptr.save(of(1, "one"), tmp_path / "one.safetensors")
    (found,) = adaptr.similar(of(0, "t"), str(tmp_path / "one.safetensors"))
    assert found.source == str(tmp_path / "one.safetensors")
    with pytest.raises(UsageError, match="has a weight"):
        adaptr.similar(of(0, "t"), [(of(1, "one"), 0.5)])


def test_those_of_the_store_are_found_and_begun_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    target, model = of(0, "t"), tiny.model("llama")
    near = prompt((target.tensors[":P"] + 0.1).tolist(), "near")
    others = {"near": near, "far": of(3, "far"), "short": of(4, "short", 3), "lora": adaptr.create(model, "lora", r=2)}
    for name, adapter in {**others, "itself": target}.items():
        adaptr.save(adapter, tmp_path / f"{name}.safetensors")
        adaptr.tag(tmp_path / f"{name}.safetensors", f"{name}:1")
    found = adaptr.similar(tmp_path / "itself.safetensors")
    assert [one.source.partition(":")[0] for one in found] == ["near", "far"]
    made = adaptr.compose([(one.source, one.weight) for one in found], "average").adapter
    far = others["far"].tensors[":P"]
    assert_close(made.tensors[":P"], found[0].weight * near.tensors[":P"] + found[1].weight * far)


def test_what_can_not_be_compared_is_refused() -> None:
    target = of(0, "t")
    with pytest.raises(TargetMismatch, match=r"\(3, 32\) where"):
        adaptr.similar(target, [of(1, "short", 3)])
    with pytest.raises(Unsupported, match="prompts alone"):
        adaptr.similar(target, [adaptr.create(tiny.model("llama"), "lora", r=2)])
    with pytest.raises(UsageError, match="at least 1"):
        adaptr.similar(target, [target], 0)
    with pytest.raises(UsageError, match=r"k=1\.5"):
        adaptr.similar(target, [target], 1.5)  # type: ignore[arg-type]
    broken = prompt([[float("nan")] * tiny.WIDTH] * 4, "broken")
    for pair in ((target, [target, broken]), (broken, [target])):
        with pytest.raises(NonFinite):
            adaptr.similar(*pair)


def test_what_is_to_be_copied_has_its_names_in_quotes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adaptr.save(of(0, "t"), tmp_path / "a b.safetensors")
    assert run(["similar", str(tmp_path / "a b.safetensors"), str(tmp_path / "a b.safetensors")]) == 0
    assert "b.safetensors=1' --strategy" in capsys.readouterr().out
