"""Law 12: outputs equal golden values made by the papers' formulas alone (`golden/make_methods.py`), for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import adaptr
from adaptr import plugins
from adaptr.testing import assert_close

FILES = sorted((Path(__file__).parent / "golden" / "methods").glob("*.safetensors"))
CONFIG: dict[str, dict[str, Any]] = {
    "lora": {"r": 2, "alpha": 3.0},
    "dora": {"r": 2, "alpha": 3.0},
    "loha": {"r": 2, "alpha": 3.0},
    "lokr": {"r": 2, "alpha": 3.0, "a": 2, "b": 3, "c": 1, "d": 5, "w2_full": False},
    "adalora": {"r": 2, "alpha": 3.0, "begun": 4},
    "vera": {"r": 2, "stored": True, "in_max": 7, "out_max": 8, "width": 5},
    "oft": {"b": 5},
    "krona": {"s": 2.0, "a1": 2, "a2": 5, "b1": 3, "b2": 1},
    "krona-b": {"s": 2.0, "a1": 2, "a2": 3, "b1": 3, "b2": 2},
    "krona-bres": {"s": 2.0, "a1": 2, "a2": 3, "b1": 3, "b2": 2},
    "boft": {"b": 2, "n": 4, "m": 2},
    "hra": {"r": 2},
    "shira": {"n": 4, "alpha": 0.5, "rows": 6, "cols": 5},
    "full": {},
    "ia3": {"side": "out"},
    "bitfit": {},
    "houlsby": {"m": 3},
    "parallel": {"m": 3, "s": 4.0},
}


class Model(nn.Module):
    def __init__(self, W: torch.Tensor, b: torch.Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(W.shape[1], W.shape[0])
        self.layer.weight, self.layer.bias = nn.Parameter(W), nn.Parameter(b)


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_outputs_are_the_golden_ones(file: Path) -> None:
    t = load_file(file)
    model = Model(t["W"], t["bias"])
    method = plugins.method(file.stem)
    kind = "module" if "module" in method.kinds else "linear"
    shape = (t["W"].shape[0],) if kind == "module" else tuple(t["W"].shape)
    target = adaptr.Target("layer", kind, shape, CONFIG[file.stem])
    tensors = {f"layer:{name}": t[name] for name in method.shapes(target)}
    adapter = adaptr.Adapter(file.stem, CONFIG[file.stem], {"layer": target}, tensors)
    with torch.no_grad(), adaptr.attach(model, adapter):
        assert_close(model.layer(t["x"]).double(), t["y"])


def test_the_golden_files_are_those_of_the_first_methods() -> None:
    """Methods that need a whole model are held to reference loops in tests/host/test_prompt.py and tests/runtime."""
    assert {f.stem for f in FILES} == set(CONFIG)


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_their_methods_are_there(file: Path) -> None:
    assert plugins.known(file.stem)
