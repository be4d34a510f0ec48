"""Packed checkpoints with other shapes, dtypes, names, metadata and configurations are read, or refused by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.reading import whole
from adaptr.errors import AdaptrError
from packed_files import Q, checkpoint

Tensors = dict[str, torch.Tensor]
BF16, E4M3 = torch.bfloat16, torch.float8_e4m3fn
DTYPES = (torch.uint8, torch.int8, torch.int32, torch.int64, BF16, torch.float32, E4M3)
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 3, 7, 16, 1 << 40, 0.5, "", "x", "re:(", "re:.*", "Linear", "nvfp4-pack-quantized", "float",
    "group", "block", [], {}, [0], [1, 128], ["re:.*"], {"a": 1},
)  # fmt: skip


def _scheme(layout: str, **weights: Any) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "format": layout}}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": groups, "ignore": ["lm_head"]}


def _codes(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


def _metadata(kind: str, *names: str, **how: Any) -> dict[str, str]:
    about = {"block_size": [1, 32], "dtype": {"_type": "torch.dtype", "_data": "bfloat16"}, **how}
    said = {"_type": kind, "_data": about, "_tensor_data_names": ["qdata", "scale", *names]}
    return {f"{Q}.weight": json.dumps(said), "tensor_names": json.dumps([f"{Q}.weight"])}


Made = tuple[Tensors, dict[str, Any], dict[str, str]]
CASES: Mapping[str, Made] = {
    "ct-int": (
        {
            f"{Q}.weight_packed": torch.zeros(8, 4, dtype=torch.int32), f"{Q}.weight_scale": torch.ones(8, 2).to(BF16),
            f"{Q}.weight_zero_point": torch.zeros(1, 2, dtype=torch.int32), f"{Q}.weight_g_idx": torch.arange(32) // 16,
            f"{Q}.weight_shape": torch.tensor([8, 32]),
        },
        _scheme("pack-quantized", num_bits=4, type="int", group_size=16, strategy="group", symmetric=False),
        {},
    ),
    "ct-fp8": (
        {f"{Q}.weight": _codes(8, 32).view(E4M3), f"{Q}.weight_scale": torch.ones(2, 2).to(BF16)},
        _scheme("float-quantized", num_bits=8, type="float", strategy="block", block_structure=[4, 16]),
        {},
    ),
    "ct-nvfp4": (
        {
            f"{Q}.weight_packed": _codes(8, 16), f"{Q}.weight_scale": _codes(8, 2).view(E4M3),
            f"{Q}.weight_global_scale": torch.ones(1),
        },
        _scheme("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16),
        {},
    ),
    "modelopt": (
        {
            f"{Q}.weight": _codes(8, 16), f"{Q}.weight_scale": _codes(8, 2).view(E4M3),
            f"{Q}.weight_scale_2": torch.tensor(1.0), f"{Q}.input_scale": torch.tensor(1.0),
        },
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"], "quantized_layers": {}},
        {},
    ),
    "mxfp4": (
        {f"{Q}_blocks": _codes(2, 4, 1, 16), f"{Q}_scales": _codes(2, 4, 1)},
        {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
        {},
    ),
    "torchao-int": (
        {
            f"{Q}._weight_qdata": torch.zeros(8, 32, dtype=torch.int8), f"{Q}._weight_scale": torch.ones(8, 1),
            f"{Q}._weight_zero_point": torch.zeros(8, 1, dtype=torch.int8),
        },
        {"quant_method": "torchao", "modules_to_not_convert": None},
        _metadata("IntxUnpackedToInt8Tensor", "zero_point", target_dtype={"_type": "torch.dtype", "_data": "int4"}),
    ),
    "torchao-float": (
        {f"{Q}._weight_qdata": _codes(8, 32).view(E4M3), f"{Q}._weight_scale": torch.ones(8, 1)},
        {"quant_method": "torchao", "modules_to_not_convert": None},
        _metadata("Float8Tensor"),
    ),
}  # fmt: skip


def read(root: Path, made: Made) -> int:
    """How many packed weights were decoded."""
    tensors, said, metadata = made
    found = open_checkpoint(checkpoint(root, tensors, said, metadata)).tensors.values()
    return len([whole(one) for one in found if isinstance(one, Packed)])


@pytest.mark.parametrize("name", CASES)
def test_each_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, CASES[name]) == 1


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 1 << 32))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_only_typed_errors(tmp_path: Path, name: str, seed: int) -> None:
    random = Random(seed)
    tensors, said, metadata = copy.deepcopy(CASES[name])
    for _ in range(random.choice((1, 1, 2))):
        random.choice((_tensor, _tensor, _document))(random, tensors, said, metadata)
    with suppress(AdaptrError):
        read(tmp_path, (tensors, said, metadata))


def _tensor(random: Random, tensors: Tensors, said: dict[str, Any], metadata: dict[str, str]) -> None:
    """One tensor of another dtype or shape, of other values, under another name, or gone."""
    name = random.choice(sorted(tensors))
    old = tensors.pop(name)
    shape = list(old.shape)
    what = random.randrange(5)
    if what == 0 and shape:
        axis = random.randrange(len(shape))
        shape[axis] = random.choice((0, 1, shape[axis] - 1, shape[axis] + 1, shape[axis] * 2))
        tensors[name] = torch.zeros(shape, dtype=torch.uint8).to(old.dtype)
    elif what == 1:
        tensors[name] = torch.zeros(shape).to(random.choice(DTYPES))
    elif what == 2:
        size = old.numel() * old.itemsize
        tensors[name] = torch.tensor(list(random.randbytes(size)), dtype=torch.uint8).view(old.dtype).reshape(shape)
    elif what == 3:
        tensors[name] = torch.zeros(random.choice(([], [0], [1], [2, 2, 2], [*shape, 1]))).to(old.dtype)


def _document(random: Random, tensors: Tensors, said: dict[str, Any], metadata: dict[str, str]) -> None:
    """Another value somewhere in the configuration or in what the metadata says."""
    name = f"{Q}.weight"
    about = json.loads(metadata[name]) if metadata and random.random() < 0.7 else None
    places = list(_places(said if about is None else about))
    box, key = random.choice(places)
    if random.random() < 0.2:
        del box[key]
    else:
        box[key] = copy.deepcopy(random.choice(VALUES))
    if about is not None:
        metadata[name] = json.dumps(about)


def _places(box: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(box) if isinstance(box, dict) else range(len(box)):
        yield box, key
        if isinstance(box[key], dict | list):
            yield from _places(box[key])
