"""What is made of several adapters goes to a real registry as one artifact, and comes back whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.composing import gather
from adaptr.testing import bits_equal, logits, shaken
from registry.servers.registry import DockerRegistry


def stacked(model: Any, children: dict[str, adaptr.Adapter]) -> adaptr.Adapter:
    with adaptr.stack(model, {name: (child, 0.5) for name, child in children.items()}) as stack:
        return stack.adapted()


def gated(model: Any, children: dict[str, adaptr.Adapter]) -> adaptr.Adapter:
    return shaken(gather.over("xlora", children, model))


@pytest.mark.parametrize("make", [stacked, gated])
def test_a_stack_and_a_gate_come_back_whole(
    make: Callable[[Any, dict[str, adaptr.Adapter]], adaptr.Adapter],
    plain: DockerRegistry,
    repository: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, place = tiny.model("llama"), f"oci://{plain.host}/{repository}:1.0"
    children = {
        "law": shaken(adaptr.create(model, "lora", ["attn.q"], r=2), 1),
        "code": shaken(adaptr.create(model, "loha", ["attn.q", "mlp.down"], r=2), 2),
    }
    made = make(model, children)
    adaptr.save(made, tmp_path / "whole.adaptr.safetensors")

    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "here"))
    adaptr.push(tmp_path / "whole.adaptr.safetensors", place)
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "there"))
    adaptr.pull(place, tmp_path / "pulled")

    again = adaptr.load(tmp_path / "pulled")
    parents = {name: part.digest for name, part in made.parts.items()}
    assert all(parents.values())
    assert {name: part.digest for name, part in again.parts.items()} == parents
    outputs = []
    for one in (made, again):
        with torch.no_grad(), adaptr.attach(model, one):
            outputs.append(logits(model(**tiny.inputs("llama"))).clone())
    assert bits_equal(*outputs)
