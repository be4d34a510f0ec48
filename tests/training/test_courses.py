"""Methods that have a course of training of their own, through `adaptr train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import adaptr

COURSES: list[tuple[str, dict[str, Any]]] = [
    ("adamix", {"m": 8}),
    ("adapterdrop", {"fields": {"m": 8}}),
    ("unipelt", {"m": 8, "r": 2, "tokens": 3}),
    ("mad-x", {}),
]


@pytest.mark.parametrize(("method", "config"), COURSES, ids=[name for name, _ in COURSES])
def test_it_learns_is_finished_and_generates_with_a_cache(
    base: Path, data: Path, tmp_path: Path, method: str, config: dict[str, Any]
) -> None:
    report = adaptr.fit(
        base, data, tmp_path / "a.safetensors", method=method, config=config, steps=8, rate=0.02, samples=0
    )
    assert report.after["loss"] < report.before["loss"]
    adapter = adaptr.load(report.out)
    assert adapter.method == method
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad(), adaptr.attach(model, adapter):
        said = [model.generate(torch.tensor([[5, 9, 7]]), max_new_tokens=6, use_cache=on) for on in (True, False)]
    assert torch.equal(*said)
