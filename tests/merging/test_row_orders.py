"""Modules whose rows another library has in another order, or apart: an adapter follows them, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import adaptr
from adaptr import plugins
from adaptr.errors import BadConfig, ShapeError, TargetNotFound, Unsupported
from adaptr.testing.samples import shaken

WIDTH = 8
#: Methods that go into one layer of whatever shape, and change its weight or bias.
METHODS = [
    name
    for name in plugins.names()
    if (own := plugins.method(name)).merges(own.Config()) and "linear" in own.kinds
    if not ((can := own.can).over or can.parts or can.follows or can.tokens is not None)
]
#: What a module is called in diffusers, how many times the model's width it has of rows, its name in published files.
NORM_OUT = ("norm_out.linear", 2, "final_layer.adaLN_modulation.1")
LAST = ("transformer_blocks.0.norm1_context.linear", 2, "joint_blocks.0.context_block.adaLN_modulation.1")
OTHER = ("transformer_blocks.0.norm1_context.linear", 6, "joint_blocks.0.context_block.adaLN_modulation.1")
MIDDLE = ("transformer_blocks.0.norm1.linear", 6, "joint_blocks.0.x_block.adaLN_modulation.1")
QKV = ("double_blocks.0.img_attn.qkv", 3, "")
Tensors = dict[str, torch.Tensor]


def turned(rows: torch.Tensor) -> torch.Tensor:
    """Shift and scale in the other order."""
    return torch.cat([rows[len(rows) // 2 :], rows[: len(rows) // 2]])


def network(path: str, rows: int) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = nn.Linear(WIDTH, rows * WIDTH)
    for part in reversed(path.split(".")):
        made = nn.ModuleDict({part: made})
    return made


def made_for(model: nn.Module, path: str, method: str) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, [path], **plugins.method(method).small))


def follows(adapter: adaptr.Adapter) -> bool:
    """Whether a method's table says where a target's rows are in all of its tensors, which then follow them wherever
    they go. Of others, whose tensors may be of all rows together, a refusal is right.
    """
    method, (target,) = plugins.method(adapter.method), adapter.targets.values()
    if any(one.shared or one.whole or one.joint for one in method.params.values()):
        return False
    half = replace(target, shape=(target.shape[0] // 2, target.shape[1]))
    try:
        shapes, halves = method.shapes(target), method.shapes(half)
    except (BadConfig, ShapeError):
        return False
    # with the rows on both axes each of them is made of all
    rows = {name: list(method.params[name].tokens(target.config)).count("out") == 1 for name in shapes}
    return all(rows[name] or halves[name] == shape for name, shape in shapes.items())


def base(file: Path, tensors: Tensors) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


def elsewhere(own: Tensors, path: str, other: str, order: Callable[[torch.Tensor], torch.Tensor]) -> Tensors:
    """The tensors of a module as published files have them; of a joined one, as diffusers has them."""
    if other:
        return {f"{other}{name.removeprefix(path)}": order(tensor) for name, tensor in own.items()}
    parts = [f"transformer.transformer_blocks.0.attn.to_{one}" for one in "qkv"]
    return {f"{part}.{name.rpartition('.')[2]}": rows
            for name, tensor in own.items() for part, rows in zip(parts, tensor.chunk(3), strict=True)}  # fmt: skip


@pytest.mark.parametrize("place", [NORM_OUT, LAST, OTHER, MIDDLE, QKV], ids=lambda place: f"{place[0]}-{place[1]}")
@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_does_elsewhere_what_it_does_in_a_base_of_its_own_names(
    method: str, place: tuple[str, int, str], tmp_path: Path
) -> None:
    path, order = f"transformer.{place[0]}", turned if place[1] == 2 else torch.Tensor.clone
    model = network(path, place[1])
    adapter, own = made_for(model, path, method), dict(model.state_dict())
    adaptr.merge(base(tmp_path / "own.safetensors", own), adapter, tmp_path / "a.safetensors")
    theirs = base(tmp_path / "theirs.safetensors", elsewhere(own, path, place[2], order))
    try:
        adaptr.merge(theirs, adapter, tmp_path / "b.safetensors")
    except Unsupported as error:
        if follows(adapter) or place in (OTHER, MIDDLE) or "can't be cut" not in str(error):
            raise
        return
    wanted = elsewhere(load_file(tmp_path / "a.safetensors"), path, place[2], order)
    found = load_file(tmp_path / "b.safetensors")
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)


def test_the_other_way_round_with_proof_and_back(tmp_path: Path) -> None:
    path = "transformer.final_layer.adaLN_modulation.1"
    model = network(path, 2)
    adapter, own = made_for(model, path, "lora"), dict(model.state_dict())
    theirs = base(tmp_path / "base.safetensors", elsewhere(own, path, "transformer.norm_out.linear", turned))
    out = tmp_path / "out.safetensors"
    adaptr.merge(theirs, adapter, out)
    a, b = (adapter.tensors[f"{path}:{one}"] for one in "AB")
    scale = adapter.targets[path].config["alpha"] / adapter.targets[path].config["r"]
    wanted = turned(own[f"{path}.weight"] + scale * b @ a)
    torch.testing.assert_close(load_file(out)["transformer.norm_out.linear.weight"], wanted, atol=1e-6, rtol=0)
    assert adaptr.verify(out, theirs, adapter).exact
    adaptr.unmerge(out, tmp_path / "back.safetensors")
    assert (tmp_path / "back.safetensors").read_bytes() == theirs.read_bytes()


def test_a_whole_parameter_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = "transformer.norm_out.linear"
    model = network(path, 2)
    theirs = base(
        tmp_path / "base.safetensors",
        elsewhere(dict(model.state_dict()), path, "final_layer.adaLN_modulation.1", turned),
    )
    made = made_for(model, path, "lora")
    made = made.replace(tensors={**made.tensors, f"{path}.bias:=": torch.zeros(2 * WIDTH)})
    with pytest.raises(TargetNotFound, match=r"scale and shift in the other order"):
        adaptr.merge(theirs, made, tmp_path / "out.safetensors")
