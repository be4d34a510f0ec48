"""Packed checkpoints that are damaged, or whose configuration is of another: typed errors that name the place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.reading import whole
from adaptr.errors import CheckpointError, Unsupported

Tensors = dict[str, torch.Tensor]
Q = "model.layers.0.self_attn.q_proj"
EXPERTS = "model.layers.0.mlp.experts.down_proj"


def damaged(folder: Path, out: Path, change: Callable[[Tensors, dict[str, Any]], None]) -> Path:
    """A reference with other tensors or another `quantization_config`."""
    shutil.copytree(folder, out)
    tensors, config = load_file(out / "model.safetensors"), json.loads((out / "config.json").read_text())
    with safe_open(out / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    change(tensors, config["quantization_config"])
    (out / "model.safetensors").unlink()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "model.safetensors", metadata)
    (out / "config.json").chmod(0o644)
    (out / "config.json").write_text(json.dumps(config))
    return out


def without(role: str) -> Callable[[Tensors, dict[str, Any]], None]:
    return lambda tensors, said: tensors.__delitem__(f"{Q}.{role}") if f"{Q}.{role}" in tensors else None


def cut(role: str) -> Callable[[Tensors, dict[str, Any]], None]:
    return lambda tensors, said: tensors.__setitem__(f"{Q}.{role}", tensors[f"{Q}.{role}"][:-1])


#: What is damaged.
CASES = [
    ("bnb-nf4", without("weight.absmax"), "`absmax` is not there"),
    ("bnb-nf4", without("weight"), "is not there"),
    ("bnb-nf4", cut("weight"), r"got|is U8"),
    ("bnb-nf4", cut("weight.absmax"), "absmax"),
    ("bnb-nf4-dq", cut("weight.nested_quant_map"), "nested_quant_map"),
    ("bnb-int8", cut("SCB"), "SCB"),
    ("fp8-block", lambda tensors, said: said.update(weight_block_size=[64, 64]), "weight_scale_inv"),
    ("fp8-block", lambda tensors, said: said.update(weight_block_size="many"), "weight_block_size"),
    ("ct-int4-g128", without("weight_packed"), "`weight_packed` is not there"),
    ("ct-int4-g128", without("weight_scale"), "`scale` is not there"),
    ("ct-int4-g128", without("weight_shape"), "weight_shape"),
    ("ct-int4-g128", cut("weight_shape"), "weight_shape"),
    ("ct-int4-g128", cut("weight_packed"), "weight_packed"),
    ("ct-fp8-block", cut("weight_scale"), "weight_scale"),
    ("ct-fp8-channel", cut("weight_scale"), "weight_scale"),
    ("ct-int8-w8a8", without("weight"), "`weight` is not there"),
    ("ct-nvfp4", without("weight_global_scale"), "`overall` is not there"),
    ("ct-nvfp4", cut("weight_scale"), "weight_scale"),
    ("ct-mxfp4", lambda tensors, said: said.update(config_groups=None), "config_groups"),
    ("mxfp4", lambda tensors, said: tensors.pop(f"{EXPERTS}_scales"), "`scale` is not there"),
    ("mxfp4", lambda tensors, said: tensors.pop(f"{EXPERTS}_blocks"), "blocks that are not there"),
    ("mxfp4", lambda tensors, said: tensors.update({f"{EXPERTS}_blocks": torch.zeros(2, 4)}), "of shape"),
    ("torchao-int8", without("_weight_scale"), "_weight_scale` is not there"),
    ("torchao-float8", cut("_weight_scale"), "_weight_scale"),
    ("gptq-int4", without("scales"), "`scales` are not there"),
    ("gptq-int4", without("qzeros"), "`qzeros` is not there"),
    ("gptq-int4", cut("qzeros"), "qzeros"),
    ("gptq-int4", cut("g_idx"), "g_idx"),
    ("gptq-int4", lambda tensors, said: said.update(bits=8), "qzeros|g_idx"),
    ("gptq-int4", lambda tensors, said: said.update(bits="four"), "`quantization_config.bits`"),
    ("gptq-int4-actorder-v2", without("g_idx"), "`g_idx` is not there"),
    ("awq", without("scales"), "`scales` are not there"),
    ("awq", cut("qweight"), "qweight.*127 inputs"),
    ("awq", lambda tensors, said: said.update(group_size=64), "qzeros"),
    ("hqq", without("zero"), "`zero` is not there"),
    ("hqq", without("shape"), r"q_proj\.shape` is not there"),
    ("hqq", cut("W_q"), "W_q"),
    ("hqq", lambda tensors, said: tensors[f"{Q}.axis"].fill_(2), "along axis 2"),
    ("hqq", lambda tensors, said: tensors[f"{Q}.nbits"].fill_(8), "8 bits, wanted codes of `4bit_u8`"),
]


#: What is not certain.
NOT_KNOWN = [
    ("gptq-int4", lambda tensors, said: said.update(checkpoint_format="marlin"), "`marlin`"),
    ("gptq-int4", lambda tensors, said: said.update(bits=5), "5 bits"),
    ("awq", lambda tensors, said: said.update(version="gemv"), "`gemv`"),
    ("awq", lambda tensors, said: said.update(bits=8), "8 bits"),
    ("hqq", lambda tensors, said: tensors[f"{Q}.quant_scale"].fill_(1), "packed themselves"),
    ("hqq", lambda tensors, said: tensors[f"{Q}.packing"].fill_(65), "`AAAAAAA`"),
]


@pytest.mark.parametrize(
    ("name", "change", "words", "error"),
    [*((*case, CheckpointError) for case in CASES), *((*case, Unsupported) for case in NOT_KNOWN)],
)
def test_it_is_refused_by_name(
    shared: Path,
    tmp_path: Path,
    name: str,
    change: Callable[[Tensors, dict[str, Any]], None],
    words: str,
    error: type[Exception],
) -> None:
    folder = damaged(shared / "quant-refs" / name, tmp_path / "base", change)
    with pytest.raises(error, match=words):
        open_checkpoint(folder)


def test_a_group_that_there_is_not(shared: Path, tmp_path: Path) -> None:
    def changed(tensors: Tensors, said: dict[str, Any]) -> None:
        tensors[f"{Q}.g_idx"][0] = 99

    stored = open_checkpoint(damaged(shared / "quant-refs/gptq-int4", tmp_path / "base", changed)).tensors
    with pytest.raises(CheckpointError, match="g_idx"):
        whole(stored[f"{Q}.weight"])


def test_floats_under_a_configuration_of_packed_weights(shared: Path, tmp_path: Path) -> None:
    def floats(tensors: Tensors, said: dict[str, Any]) -> None:
        for name in [name for name in tensors if not name.endswith("norm.weight")]:
            del tensors[name]

    with pytest.raises(CheckpointError, match="and none is"):
        open_checkpoint(damaged(shared / "quant-refs" / "bnb-nf4", tmp_path / "base", floats))


@pytest.mark.parametrize("name", ["bnb-int8", "fp8-block", "ct-int4-g128", "ct-fp8-tensor"])
def test_packed_weights_of_which_no_configuration_says_how(shared: Path, tmp_path: Path, name: str) -> None:
    """Codes are never read as weights."""
    folder = damaged(shared / "quant-refs" / name, tmp_path / "base", lambda tensors, said: said.clear())
    with pytest.raises(CheckpointError, match="no configuration says how"):
        open_checkpoint(folder)
