"""LoRA's scale: alpha / r, and alpha / sqrt(r) where it is rank-stabilised; and its form with a core."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import adaptr
from adaptr import errors as e
from adaptr.testing import assert_close, shaken


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 6)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 4), (True, 6 / 2)])
def test_the_scale_by_the_rank(rslora: bool, scale: float) -> None:
    adapter = shaken(adaptr.create(Model(), "lora", "layer", r=4, alpha=6, rslora=rslora))
    p = adapter.at("layer")
    assert_close(adapter["layer"].dense(), scale * (p["B"] @ p["A"]))


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.point, self.flat = nn.Conv2d(6, 10, (3, 2)), nn.Conv2d(6, 10, 1), nn.Linear(6, 10)


def cored() -> adaptr.Adapter:
    return shaken(adaptr.create(Convolutions(), "lora", ["wide", "point", "flat"], r=3, alpha=6, tucker=True), by=0.3)


def test_a_core_is_where_the_kernel_is_more_than_one_place() -> None:
    made = cored()
    assert [made.targets[path].config["tucker"] for path in ("wide", "point", "flat")] == [True, False, False]
    p = made.at("wide")
    assert sum(t.numel() for t in p.values()) == 3 * (6 + 10) + 3 * 3 * (3 * 2)
    want = 2 * torch.einsum("om,mnkl,ni->oikl", p["B"].flatten(1), p["t"], p["d"])
    assert_close(made["wide"].dense().view(want.shape), want)


@pytest.mark.parametrize("scheme", ["fp16", "int8", "nf4"])
def test_a_core_is_quantised_with_its_error(scheme: str, tmp_path: Path) -> None:
    made = cored()
    small = adaptr.quantize(made, scheme)
    adaptr.save(small, tmp_path / "a.safetensors")
    back, error = adaptr.load(tmp_path / "a.safetensors"), small.quantization["error"]
    D, E = made["wide"].dense().double(), back["wide"].dense().double()
    assert 0 < (E - D).norm() / D.norm() <= error < 0.2


def test_a_core_over_no_kernel_is_refused() -> None:
    target = adaptr.Target("flat", "linear", (10, 6), {"r": 3, "tucker": True})
    tensors = {"flat:B": torch.ones(10, 3), "flat:t": torch.ones(3, 3), "flat:d": torch.ones(3, 6)}
    with pytest.raises(e.Unsupported, match="`flat` has no kernel"):
        adaptr.attach(Convolutions(), adaptr.Adapter("lora", {"r": 3}, {"flat": target}, tensors))
