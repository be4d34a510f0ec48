"""GPTQ, AWQ and HQQ against their layouts written out number by number: decoded in any rows, and packed again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.reading import reading, whole
from adaptr.errors import Unsupported
from adaptr.packings import Grid
from adaptr_packings._pieces import bits
from adaptr_packings.awq import Awq
from adaptr_packings.gptq import Gptq
from adaptr_packings.hqq import Hqq
from packings import naive

MADE = {
    **{f"gptq-{bits}-{form}-{order}": naive.gptq((64, 96), bits, 32, form, order == "ordered", seed=bits)
       for bits in (2, 3, 4, 8) for form in ("gptq", "gptq_v2") for order in ("ordered", "shuffled")},
    "gptq-4-whole": naive.gptq((32, 40), 4, 40, "gptq", True),
    "awq-32": naive.awq((48, 64), 32),
    **{f"hqq-{layout}-{axis}-{group}": naive.hqq((16, 40), layout, group, axis)
       for layout in naive.HQQ for axis in (0, 1) for group in (40, 16)},
}  # fmt: skip


def stored_of(folder: Path) -> Packed:
    stored = open_checkpoint(folder).tensors[f"{naive.PATH}.weight"]
    assert isinstance(stored, Packed)
    return stored


class Sink:
    """A part in memory."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def rows(self, start: int, values: torch.Tensor) -> None:
        self.tensor[start : start + len(values)] = values

    def bytes(self, start: int, values: torch.Tensor) -> None:
        self.tensor.view(torch.uint8).view(-1)[start : start + len(values)] = values


@pytest.mark.parametrize("name", MADE)
def test_every_row_is_decoded_as_the_layout_says(tmp_path: Path, name: str) -> None:
    made = MADE[name]
    stored = stored_of(made.saved(tmp_path / "base"))
    assert torch.equal(whole(stored), made.values)
    with reading(stored) as rows:
        part = rows(slice(5, stored.entry.shape[0]))
        assert torch.equal(torch.cat([part.read(slice(i, i + 7)) for i in range(0, part.count, 7)]), made.values[5:])


@pytest.mark.parametrize("name", MADE)
def test_what_was_decoded_is_packed_to_the_very_bytes(tmp_path: Path, name: str) -> None:
    stored = stored_of(MADE[name].saved(tmp_path / "base"))
    codec = stored.codec
    assert isinstance(codec, Grid)
    with reading(stored) as rows:
        parts = rows(slice(0, 0)).parts
        true = parts[codec.main].all()
        sink = Sink(torch.zeros_like(true))
        for start in range(0, codec.shape[0], 7):
            values = codec.decode(parts, start, min(start + 7, codec.shape[0]))
            codec.put(codec.nearest(values.float(), parts, start), start, {codec.main: sink})
    assert torch.equal(sink.tensor, true)


@pytest.mark.parametrize("name", ["gptq-3-gptq-shuffled", "awq-32", "hqq-4bit_u8-1-16", "hqq-3bit_32-0-40"])
def test_rows_are_put_and_no_others(tmp_path: Path, name: str) -> None:
    stored = stored_of(MADE[name].saved(tmp_path / "base"))
    codec = stored.codec
    assert isinstance(codec, Grid)
    with reading(stored) as rows:
        parts = rows(slice(0, 0)).parts
        new = dict(parts)
        new[codec.main] = Held(parts[codec.main].all().clone())
        codec.put(torch.zeros(4, codec.shape[1], dtype=torch.uint8), 3, {codec.main: Sink(new[codec.main].all())})
        before, after = codec.codes(parts, 0, codec.shape[0]), codec.codes(new, 0, codec.shape[0])
    assert not bool(after[3:7].any())
    assert torch.equal(after[:3], before[:3])
    assert torch.equal(after[7:], before[7:])


class Held:
    """A part that is read from memory."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def all(self) -> torch.Tensor:
        return self.tensor


@given(st.integers(1, 8), st.integers(1, 70), st.randoms(use_true_random=False))
def test_a_stream_of_codes_comes_back(width, count, random) -> None:
    codes = torch.tensor([[random.randrange(1 << width) for _ in range(count)] for _ in range(3)], dtype=torch.uint8)
    found, first = bits.laid(codes, width), random.randrange(count)
    assert found.tolist() == [naive.words(row, width) for row in codes.tolist()]
    assert torch.equal(bits.taken(found, width, first, count - first), codes[:, first:])


def test_the_configuration_of_before_is_read(tmp_path: Path) -> None:
    made = naive.gptq((32, 64), 4, 32, "gptq", True)
    folder = made.saved(tmp_path / "base")
    said = {key: value for key, value in made.said.items() if key != "quant_method"}
    (folder / "quantize_config.json").write_text(json.dumps(said))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert torch.equal(whole(stored_of(folder)), made.values)


def test_bits_of_a_weights_own(tmp_path: Path) -> None:
    made = naive.gptq((32, 64), 8, 32, "gptq", True)
    said = {**made.said, "bits": 4, "dynamic": {"+:.*q_proj": {"bits": 8}}}
    stored = stored_of(naive.Made(made.tensors, said, made.values).saved(tmp_path / "base"))
    assert stored.codec.scheme == "gptq-int8"
    assert torch.equal(whole(stored), made.values)


BLOCKS = [f"model.layers.{i}.{name}" for i in (0, 1) for name in ("self_attn.q_proj", "mlp.up_proj")]


def test_gptq_says_what_stays_packed() -> None:
    """Names in a block where all blocks agree, and whole names where they don't."""
    said = Gptq().floated({"bits": 4}, [BLOCKS[0], BLOCKS[2], "lm_head"], [BLOCKS[1], BLOCKS[3]])
    assert said == {"bits": 4, "modules_in_block_to_quantize": [["mlp.up_proj"]]}
    said = Gptq().floated({}, [BLOCKS[0]], BLOCKS[1:])
    assert said["modules_in_block_to_quantize"] == [["mlp.up_proj", BLOCKS[2]]]


def test_awq_says_what_does_not() -> None:
    said = Awq().floated({"modules_to_not_convert": None}, [BLOCKS[0]], BLOCKS[1:])
    assert said["modules_to_not_convert"] == ["lm_head", BLOCKS[0]]


def test_hqq_names_layers_by_kind_alone() -> None:
    assert Hqq().floated({}, [BLOCKS[0], BLOCKS[2]], [BLOCKS[1]])["skip_modules"] == ["self_attn.q_proj"]
    with pytest.raises(Unsupported, match=r"self_attn\.q_proj"):
        Hqq().floated({}, [BLOCKS[0]], BLOCKS[1:])
