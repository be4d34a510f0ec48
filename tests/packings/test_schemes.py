"""Layouts and configurations of compressed-tensors that no installed release writes, or that are none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptr.checkpoint import open_checkpoint
from adaptr.errors import CheckpointError, Unsupported
from adaptr_packings._pieces import bits
from adaptr_packings.compressed_tensors import CompressedTensors
from packed_files import Q, checkpoint, require_same

Said = dict[str, Any]


def config(**weights: Any) -> Said:
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 8, **weights}}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": group}}


def packed(codes: torch.Tensor, scale: torch.Tensor, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Codes of four bits, (rows, columns) of 0 to 15."""
    found = {"weight_packed": bits.laid(codes, 4), "weight_scale": scale, "weight_shape": torch.tensor(codes.shape)}
    return {f"{Q}.{leaf}": tensor for leaf, tensor in (found | more).items()}


@given(st.integers(1, 8), st.integers(1, 3), st.integers(1, 70), st.data())
def test_streams_of_bits_are_little_endian(width: int, rows: int, count: int, data: st.DataObject) -> None:
    codes = torch.randint(0, 1 << width, (rows, count), dtype=torch.uint8)
    stream = bits.laid(codes, width)
    assert stream.shape == (rows, bits.words(count, width))
    for row, found in zip(codes.tolist(), stream.tolist(), strict=True):
        number = sum((word & 0xFFFFFFFF) << 32 * i for i, word in enumerate(found))
        assert number == sum(code << width * i for i, code in enumerate(row))
    first = data.draw(st.integers(0, count - 1))
    assert torch.equal(bits.taken(stream, width, first, count - first), codes[:, first:])


@pytest.mark.parametrize("ordered", [True, False])
def test_columns_name_their_groups(tmp_path: Path, ordered: bool) -> None:
    """`actorder: group`, which releases up to 2026 wrote: the group of each column, or -1 for the usual order."""
    codes, scale = torch.randint(0, 16, (5, 24)), torch.rand(5, 3).bfloat16()
    groups = torch.arange(24) // 8
    if ordered:
        groups = groups[torch.randperm(24)]
    expected = (codes - 8).bfloat16() * scale[:, groups]
    order = groups.int() if ordered else torch.full((24,), -1)
    folder = checkpoint(tmp_path, packed(codes, scale, weight_g_idx=order), config(actorder="group", symmetric=True))
    require_same(folder, {f"{Q}.weight": expected})


def test_a_group_that_is_none(tmp_path: Path) -> None:
    order = torch.full((16,), 2)
    tensors = packed(torch.zeros(4, 16), torch.ones(4, 2), weight_g_idx=order)
    with pytest.raises(CheckpointError, match="group 2"):
        require_same(checkpoint(tmp_path, tensors, config(actorder="group")), {f"{Q}.weight": torch.zeros(4, 16)})


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"format": "marlin-24"}, Unsupported, "marlin-24"),
        ({"format": "mxfp6-pack-quantized"}, Unsupported, "mxfp6-pack-quantized"),
        ({"version": "1.2"}, Unsupported, "1.2"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, Unsupported, "sparse-24-bitmask"),
        ({"transform_config": {"config_groups": {"a": {}}}}, Unsupported, "transform_config"),
        ({"config_groups": {"W4A16": ["Linear"]}}, Unsupported, "W4A16"),
        ({"config_groups": {}}, CheckpointError, "config_groups"),
        ({"config_groups": {"a": {"weights": {}}}}, CheckpointError, r"a\.targets"),
        ({"config_groups": {"a": {"targets": ["Linear"], "weights": 4}}}, CheckpointError, r"a\.weights"),
        ({"ignore": [f"re:.*{Q[-6:]}"]}, CheckpointError, "no scheme"),
        ({"ignore": ["re:("]}, CheckpointError, "no expression"),
        ({"ignore": ["re:(a+)+b"]}, Unsupported, "forever"),
        ({"ignore": "lm_head"}, CheckpointError, "ignore"),
        (config(num_bits=9), Unsupported, "int9"),
        (config(num_bits="4"), CheckpointError, "num_bits"),
        (config(type="float"), Unsupported, "float4"),
        (config(strategy="token"), Unsupported, "token"),
        (config(strategy="block"), CheckpointError, "block_structure"),
        (config(group_size=7), CheckpointError, "multiple of 7"),
        (config(group_size=0), CheckpointError, "group_size"),
        (config(symmetric=False), CheckpointError, "`zero` is not there"),
        (config(actorder="group"), CheckpointError, "`order` is not there"),
        (config(num_bits=8), CheckpointError, "weight_packed"),
    ],
)
def test_what_is_not_known_is_named(tmp_path: Path, change: Said, kind: type[Exception], words: str) -> None:
    folder = checkpoint(tmp_path, packed(torch.zeros(4, 16), torch.ones(4, 2)), {**config(), **change})
    with pytest.raises(kind, match=words):
        open_checkpoint(folder)


def test_a_group_without_weights_packs_nothing(tmp_path: Path) -> None:
    said = config()
    said["config_groups"] = {"a": {"targets": ["Linear"], "weights": None, "input_activations": {}}}
    with pytest.raises(CheckpointError, match="no scheme"):
        open_checkpoint(checkpoint(tmp_path, packed(torch.zeros(4, 16), torch.ones(4, 2)), said))


def test_modules_that_become_floats_are_ignored_from_then_on() -> None:
    said = {**config(), "ignore": ["lm_head", "re:.*embed.*"]}
    found = CompressedTensors().floated(said, {Q, "lm_head", "model.embed_tokens"})
    assert found == {**said, "ignore": ["lm_head", "re:.*embed.*", Q]}
    assert re.match(found["ignore"][1][3:], "model.embed_tokens")
