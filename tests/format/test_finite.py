"""What is finite is told by bits as torch tells it by values."""

from __future__ import annotations

import pytest
import torch

from adaptr.format.finite import BITS, nonfinite
from adaptr.format.io import TORCH_NAMES, open_tensors

DTYPES = {name: getattr(torch, TORCH_NAMES[name]) for name in BITS}
WIDE = {"F64": torch.int64, "F32": torch.int32, "F16": torch.int16, "BF16": torch.int16, "C64": torch.int32}


def bits_of(name: str) -> torch.Tensor:
    """All numbers of a dtype, or of a wide one those with every upper half and a few lower ones."""
    width = BITS[name][0]
    if width == 8:
        return torch.arange(256).to(torch.uint8)
    if width == 16:
        return torch.arange(-(2**15), 2**15).to(torch.int16)
    upper = torch.arange(-(2**15), 2**15) << (width - 16)
    return torch.stack([upper + low for low in (0, 1, 2 ** (width - 16) - 1)], 1).flatten().to(WIDE[name])


@pytest.mark.parametrize("name", BITS)
def test_every_number_of_every_dtype(name: str) -> None:
    bits = bits_of(name)
    each = bits.view(torch.float32 if name == "C64" else DTYPES[name])
    # torch knows no `isfinite` of 8 bits, and what they are is exact in fp32
    wanted = torch.isfinite(each.float() if BITS[name][0] == 8 else each)
    rows = bits.repeat_interleave(2).view(DTYPES[name]) if name == "C64" else each
    found = set(nonfinite({str(i): row for i, row in enumerate(rows[:: 1 if len(rows) < 1000 else 37])}))
    picked = wanted[:: 1 if len(rows) < 1000 else 37]
    assert found == {str(i) for i, fine in enumerate(picked.tolist()) if not fine}
    assert found or name == "F8_E8M0"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 2**19 + 1, 2**20 - 1])
def test_one_in_a_million(place: int, value: float) -> None:
    tensor = torch.ones(2**20, dtype=torch.bfloat16)
    assert nonfinite({"a": tensor}) == []
    tensor[place] = value
    assert nonfinite({"a": tensor, "b": torch.ones(3), "c": torch.full((2,), 7), "d": torch.empty(0)}) == ["a"]


def test_what_is_large_in_fp64_is_finite() -> None:
    assert nonfinite({"a": torch.tensor([1e300], dtype=torch.float64)}) == []


def test_a_view_is_looked_at_as_it_is() -> None:
    whole = torch.tensor([[1.0, float("nan")], [2.0, 3.0]])
    assert nonfinite({"fine": whole[1], "column": whole[:, 0], "turned": whole.t()}) == ["turned"]


def test_a_file_is_read_without_loading_it(tmp_path: object) -> None:
    import safetensors.torch

    file = f"{tmp_path}/a.safetensors"
    safetensors.torch.save_file({"a": torch.tensor([float("inf")]).half(), "b": torch.ones(5).half()}, file)
    assert nonfinite(open_tensors(file)) == ["a"]
