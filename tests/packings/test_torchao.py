"""What torchao itself packs is read bit for bit; what its metadata says when a weight becomes floats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptr.checkpoint import open_checkpoint
from adaptr.errors import CheckpointError, Unsupported
from adaptr_packings.torchao import TorchAo
from packed_files import Q, checkpoint, require_same

CONFIG = {"quant_method": "torchao", "modules_to_not_convert": None}
BF16 = {"_type": "torch.dtype", "_data": "bfloat16"}


def _configs() -> dict[str, Any]:
    from torchao import quantization as q
    from torchao.quantization.granularity import PerAxis, PerGroup, PerRow, PerTensor

    int4, group = torch.int4, PerGroup(32)
    return {
        "int8": q.Int8WeightOnlyConfig(),
        "int8-tensor": q.Int8WeightOnlyConfig(granularity=PerTensor()),
        "int8-activations": q.Int8DynamicActivationInt8WeightConfig(),
        "float8": q.Float8WeightOnlyConfig(),
        "float8-row": q.Float8WeightOnlyConfig(granularity=PerRow()),
        "float8-tensor": q.Float8WeightOnlyConfig(granularity=PerTensor()),
        "intx4": q.IntxWeightOnlyConfig(weight_dtype=int4, granularity=group),
        "intx4-row": q.IntxWeightOnlyConfig(weight_dtype=int4, granularity=PerAxis(0)),
        "intx4-zeros": q.IntxWeightOnlyConfig(
            weight_dtype=int4, granularity=group, mapping_type=q.MappingType.ASYMMETRIC
        ),
        "intx2": q.IntxWeightOnlyConfig(weight_dtype=torch.int2, granularity=group),
        "intx8": q.IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=group),
    }


NAMES = (
    "int8", "int8-tensor", "int8-activations", "float8", "float8-row", "float8-tensor", "intx4", "intx4-row",
    "intx4-zeros", "intx2", "intx8",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_the_library_says_the_same(tmp_path: Path, name: str) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    from torchao.quantization import quantize_

    model = torch.nn.Sequential(torch.nn.Linear(64, 48, bias=False)).bfloat16()
    quantize_(model, _configs()[name])
    tensors, metadata = flatten_tensor_state_dict({f"{Q}.weight": model[0].weight})
    require_same(checkpoint(tmp_path, tensors, CONFIG, metadata), {f"{Q}.weight": model[0].weight.dequantize()})


def described(kind: str = "Int8Tensor", names: tuple[str, ...] = ("qdata", "scale"), **how: Any) -> dict[str, str]:
    said = {"_type": kind, "_data": {"block_size": [1, 32], "dtype": BF16, **how}, "_tensor_data_names": names}
    return {f"{Q}.weight": json.dumps(said), "tensor_names": json.dumps([f"{Q}.weight"])}


@pytest.mark.parametrize(
    ("metadata", "kind", "words"),
    [
        (described("Int4TilePackedTo4dTensor"), Unsupported, "Int4TilePackedTo4dTensor"),
        (described(names=("qdata", "scale", "act_pre_scale")), Unsupported, "act_pre_scale"),
        (described(names=("qdata", "scale", "zero_point")), CheckpointError, "_weight_zero_point` is not there"),
        (described(names=()), CheckpointError, "how a weight is packed"),
        (described(block_size=[1, 24]), CheckpointError, "multiple of 24"),
        (described(block_size=[1]), CheckpointError, "block_size"),
        (described(dtype="complex"), CheckpointError, "complex"),
        (described("IntxUnpackedToInt8Tensor", target_dtype="int9"), CheckpointError, "int9"),
        (described("Float8Tensor"), CheckpointError, "F8_E4M3"),
        (described(block_size=[2, 32]), CheckpointError, "_weight_scale"),
        ({}, CheckpointError, "and none is"),
    ],
)
def test_what_is_not_known_is_named(
    tmp_path: Path, metadata: dict[str, str], kind: type[Exception], words: str
) -> None:
    tensors = {f"{Q}._weight_qdata": torch.zeros(8, 32, dtype=torch.int8), f"{Q}._weight_scale": torch.ones(8, 1)}
    with pytest.raises(kind, match=words):
        open_checkpoint(checkpoint(tmp_path, tensors, CONFIG, metadata))


def test_a_reduced_range_has_seven_bits(tmp_path: Path) -> None:
    codes = torch.arange(-64, 64, dtype=torch.int8).reshape(4, 32)
    tensors = {f"{Q}._weight_qdata": codes, f"{Q}._weight_scale": torch.full((4, 1), 0.5)}
    folder = checkpoint(tmp_path, tensors, CONFIG, described(reduce_range=True))
    require_same(folder, {f"{Q}.weight": codes.bfloat16() / 2})


def test_weights_that_become_floats_are_plain_in_the_metadata() -> None:
    metadata = {**described(), "format": "pt"}
    found = TorchAo().metadata(metadata, {f"{Q}.weight", "lm_head.weight"})
    assert found == {**metadata, f"{Q}.weight": '{"_type": "Tensor"}'}
    assert TorchAo().floated(CONFIG, {Q})["modules_to_not_convert"] == ["lm_head", Q]
