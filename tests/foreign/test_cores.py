"""Cores of convolutions in kohya's and LyCORIS's files: a form of LoRA, and what becomes of them where none can be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import adaptr
from foreign.test_kohya import CLIP, lora, saved


def cored(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    mid = {f"{CLIP}.lora_mid.weight": torch.randn(2, 2, 3, 3)}
    return lora(CLIP, r=2, alpha=1.0, kernel=(1, 1)) | mid | {f"{CLIP}.{name}": value for name, value in more.items()}


def product(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    up, mid, down = (tensors[f"{CLIP}.lora_{name}.weight"].double() for name in ("up", "mid", "down"))
    return torch.einsum("or,rskl,si->oikl", up.flatten(1), mid, down.flatten(1))


def test_a_core_is_a_form_of_a_lora(tmp_path: Path) -> None:
    tensors = cored()
    found = adaptr.load(saved(tmp_path, tensors))
    ((path, target),) = found.targets.items()
    assert (found.method, target.config["tucker"], set(found.shapes(path))) == ("lora", True, {"t", "d", "B"})
    want = 0.5 * product(tensors)
    torch.testing.assert_close(found[path].dense().double().reshape(want.shape), want, atol=1e-6, rtol=0)


def test_with_magnitudes_a_core_goes_into_the_factor_behind_it(tmp_path: Path) -> None:
    tensors = cored(dora_scale=torch.rand(3, 1, 1, 1))
    found = adaptr.load(saved(tmp_path, tensors))
    (path,) = found.targets
    A, B = (found.tensors[f"{path}:{name}"].double() for name in "AB")
    want = product(tensors)
    torch.testing.assert_close((B.flatten(1) @ A.flatten(1)).view(want.shape), want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("to", ["peft", "diffusers"])
def test_where_no_core_can_be_it_goes_into_the_factor_behind_it(to: str, tmp_path: Path) -> None:
    tensors = cored()
    source, out = saved(tmp_path, tensors), tmp_path / ("out" if to == "peft" else "out.safetensors")
    adaptr.convert(source, out, to=to)
    found = adaptr.load(out)
    ((path, target),) = found.targets.items()
    assert (found.method, target.config.get("tucker", False), target.shape) == ("lora", False, (3, 4, 3, 3))
    assert found.tensors[f"{path}:B"].dtype == tensors[f"{CLIP}.lora_up.weight"].dtype
    want = 0.5 * product(tensors)
    torch.testing.assert_close(found[path].dense().double().reshape(want.shape), want, atol=1e-6, rtol=0)
