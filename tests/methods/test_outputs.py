"""OFT, BOFT and (IA)3 of outputs: against naive forms, attached, merged in place, and merged block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import adaptr
from adaptr.errors import BadConfig
from adaptr.testing import assert_close, shaken

LAYERS = {
    "linear": lambda: nn.Linear(6, 8),
    "conv1d": lambda: nn.Conv1d(6, 8, 3, bias=False),
    "conv2d": lambda: nn.Conv2d(6, 8, 3, groups=2),
}
FORMS: list[tuple[str, dict[str, Any]]] = [
    ("oft", {"b": 4, "side": "out"}),
    ("oft", {"b": 2, "side": "out", "rescale": True, "terms": 5}),
    ("oft", {"b": 3, "rescale": True}),
    ("boft", {"b": 2, "m": 3, "side": "out"}),
    ("boft", {"b": 4, "m": 1, "side": "out"}),
    ("ia3", {"side": "out", "bias": False}),
]


def rotated(t: dict[str, Tensor], method: str, config: dict[str, Any]) -> Tensor:
    """R (width, width), by its factors written out."""
    if method == "boft":
        m, n, b, _ = t["Q"].shape
        R = torch.eye(n * b, dtype=torch.float64)
        for i in range(m):
            # the features of all chunks of b/2, those that stand 2^i chunks apart behind each other
            chunks = torch.arange(n * b).view(-1, 2, 2**i, b // 2).transpose(1, 2).reshape(-1)
            S = (t["Q"][i] - t["Q"][i].mT) / 2
            one = torch.eye(b, dtype=torch.float64)
            D = torch.block_diag(*[(one - s) @ torch.linalg.inv(one + s) for s in S])
            P = torch.eye(n * b, dtype=torch.float64)[chunks]
            R = P.T @ D @ P @ R
        return R
    b, blocks = config["b"], []
    for q in t["Q"]:
        S = torch.zeros(b, b, dtype=torch.float64)
        S[tuple(torch.triu_indices(b, b, 1))] = q
        S, one = S - S.T, torch.eye(b, dtype=torch.float64)
        series = one + 2 * S + 2 * S @ S + 2 * S @ S @ S + S @ S @ S @ S
        blocks.append(series if config.get("terms") else (one + S) @ torch.linalg.inv(one - S))
    return torch.block_diag(*blocks)


def naive(W: Tensor, adapter: adaptr.Adapter, path: str = "layer") -> Tensor:
    t = {name: tensor.double() for name, tensor in adapter.at(path).items()}
    config, flat = dict(adapter.targets[path].config), W.double().flatten(1)
    if adapter.method == "ia3":
        return (t["l"][:, None] * flat).view(W.shape)
    R = rotated(t, adapter.method, config)
    made = R @ flat if config["side"] == "out" else flat @ R.T
    return (made * t["s"][:, None] if "s" in t else made).view(W.shape)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("layer", LAYERS)
@torch.no_grad()
def test_it_is_its_formula_and_leaves_the_bias(layer: str, form: tuple[str, dict[str, Any]]) -> None:
    torch.manual_seed(0)
    model: Any = nn.ModuleDict({"layer": LAYERS[layer]()})
    adapter = shaken(adaptr.create(model, form[0], ["layer"], **form[1]), by=0.3)
    own, x = model["layer"], torch.randn(2, 6, *(5 for _ in model["layer"].weight.shape[2:]))
    W, b = own.weight.clone(), own.bias
    wanted = type(own).__new__(type(own))
    wanted.__dict__ = {**own.__dict__, "_parameters": {"weight": nn.Parameter(naive(W, adapter).float()), "bias": b}}
    with adaptr.attach(model, adapter):
        assert_close(own(x), wanted.forward(x))
    with adaptr.attach(model, adapter, merged=True):
        assert_close(own.weight, wanted.weight)
        assert b is None or torch.equal(own.bias, b)
    assert torch.equal(own.weight, W)


@pytest.mark.parametrize("form", FORMS[:1] + FORMS[3:4], ids=str)
def test_a_weight_of_many_blocks_is_merged_as_one(form: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """A row of the result needs the others of its block, which may be in another block of the file."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(2048, 192, bias=False)})
    adapter = shaken(adaptr.create(model, form[0], ["layer"], **{**form[1], "b": 6 if form[0] == "oft" else 48}))
    save_file(dict(model.state_dict()), tmp_path / "base.safetensors")
    adaptr.merge(tmp_path / "base.safetensors", adapter, tmp_path / "merged.safetensors")
    W = model["layer"].weight.detach()
    assert_close(load_file(tmp_path / "merged.safetensors")["layer.weight"], naive(W, adapter).float())
    adaptr.unmerge(tmp_path / "merged.safetensors", tmp_path / "back.safetensors")
    assert (tmp_path / "back.safetensors").read_bytes() == (tmp_path / "base.safetensors").read_bytes()


def test_one_block_for_all_is_of_inputs() -> None:
    with pytest.raises(BadConfig, match="`share` is of blocks of inputs alone"):
        adaptr.create(nn.ModuleDict({"layer": nn.Linear(8, 8)}), "oft", ["layer"], share=True, side="out")
