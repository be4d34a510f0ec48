"""A configuration whose fields have other types than transformers writes is refused by name, before it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import checkpoints
from adaptr import api
from adaptr.checkpoint import open_checkpoint, skeleton
from adaptr.errors import CheckpointError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return checkpoints.saved("llama", tmp_path / "base")


def told(base: Path, **fields: Any) -> None:
    path = base / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("field", "value"),
    [("architectures", 3), ("architectures", [{}]), ("model_type", []), ("vocab_size", "64"), ("vocab_size", -1)],
)
def test_a_field_of_another_type(base: Path, field: str, value: Any) -> None:
    told(base, **{field: value})
    with pytest.raises(CheckpointError, match=field):
        open_checkpoint(base)


@pytest.mark.parametrize(
    "fields",
    [{"model_type": {}}, {"hidden_act": []}, {"hidden_size": "x"}, {"rope_scaling": 7}, {"model_type": "nonsuch"}],
)
def test_whatever_transformers_says_to_a_configuration(base: Path, fields: dict[str, Any]) -> None:
    told(base, **fields)
    with pytest.raises(CheckpointError):
        skeleton.skeleton(base)


def test_a_plain_merge_needs_none_of_it(base: Path, tmp_path: Path) -> None:
    told(base, hidden_act=[])
    try:
        api.merge(base, [checkpoints.lora_at_q()], tmp_path / "out")
    except CheckpointError as error:
        assert "describes no known model" in str(error)  # noqa: PT017 - either is right: merged, or refused by name
