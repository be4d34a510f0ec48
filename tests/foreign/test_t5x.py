"""T5X's prompts: arrays of numpy's alone, of the released ones what they are, and back to the byte."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign


def saved(place: Path, value: np.ndarray) -> Path:
    np.save(place / "prompt.npy", value)
    return place / "prompt.npy"


def test_a_released_prompt_is_its_rows_and_goes_back_to_the_byte(shared: Path, tmp_path: Path) -> None:
    file = shared / "real" / "t5x-prompt-sst2" / "sst2.npy"
    found = adaptr.load(file)
    assert (found.method, found.config["tokens"]) == ("prompt", 100)
    assert np.array_equal(found.tensors[":P"].numpy(), np.load(file))
    adaptr.convert(file, tmp_path / "back.npy", to="t5x")
    assert (tmp_path / "back.npy").read_bytes() == file.read_bytes()


def test_it_goes_in_front_of_what_the_encoder_of_a_t5_reads(tmp_path: Path) -> None:
    model, rows = tiny.model("t5").eval(), np.random.default_rng(0).normal(size=(3, tiny.model("t5").config.d_model))
    ids, target = torch.tensor([[5, 6, 7, 1]]), torch.tensor([[0, 4]])
    P = torch.from_numpy(rows.astype("float32"))
    with torch.no_grad():
        embedded = torch.cat([P[None], model.get_input_embeddings()(ids)], 1)
        want = model(inputs_embeds=embedded, decoder_input_ids=target).logits
        with adaptr.attach(model, adaptr.load(saved(tmp_path, P.numpy()), model)):
            found = model(input_ids=ids, decoder_input_ids=target).logits
    torch.testing.assert_close(found, want, atol=1e-6, rtol=0)


def test_the_file_of_a_training_has_a_name_of_its_own(tmp_path: Path) -> None:
    saved(tmp_path, np.ones((2, 4), "<f4")).rename(tmp_path / "encoder.prompt.prompt.prompt")
    assert foreign.of(tmp_path).name == foreign.of(tmp_path / "encoder.prompt.prompt.prompt").name == "t5x"
    assert adaptr.load(tmp_path).tensors[":P"].shape == (2, 4)


# ---------------------------------------------------------------- checkpoints


def packed(value: object) -> bytes:
    """As `msgpack_serialize` of Flax packs it, which is `msgpack` with arrays of its own."""
    if isinstance(value, dict):
        pairs = b"".join(packed(key) + packed(one) for key, one in value.items())
        return b"\xde" + len(value).to_bytes(2, "big") + pairs
    if isinstance(value, list):
        return b"\xdc" + len(value).to_bytes(2, "big") + b"".join(map(packed, value))
    if isinstance(value, str):
        return b"\xd9" + bytes([len(value)]) + value.encode()
    if isinstance(value, int):
        return b"\xd3" + value.to_bytes(8, "big", signed=True)
    if isinstance(value, np.ndarray):
        inner = packed([list(value.shape), value.dtype.name, value.tobytes()])
        return b"\xc8" + len(inner).to_bytes(2, "big") + b"\x01" + inner
    assert isinstance(value, bytes)
    return b"\xc5" + len(value).to_bytes(2, "big") + value


ROWS = np.arange(8, dtype="float32").reshape(2, 4)


def nested(value: object, *names: str) -> dict[str, object]:
    for name in reversed(names):
        value = {name: value}
    assert isinstance(value, dict)
    return value


PROMPT = ("prompt", "prompt", "prompt")


def whole(**more: object) -> dict[str, object]:
    """A checkpoint with a step, a scalar, and what an optimizer keeps of the prompt."""
    state = {"step": -3, "param_states": nested(ROWS + 1, "encoder", *PROMPT), "scale": b"\x00"}
    return {"version": 3, "optimizer": {"target": nested(ROWS, "encoder", *PROMPT) | more, "state": state}}


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint_1000", "prompt.msgpack"])
def test_the_prompt_of_a_checkpoint_of_flax(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(packed(whole()))
    assert foreign.of(tmp_path / name).name == "t5x"
    assert np.array_equal(adaptr.load(tmp_path / name).tensors[":P"].numpy(), ROWS)


def test_it_is_written_as_flaxs_where_its_name_says_so(tmp_path: Path) -> None:
    source = adaptr.load(saved(tmp_path, ROWS))
    foreign.get("t5x").write(source, tmp_path / "a.msgpack")
    assert np.array_equal(adaptr.load(tmp_path / "a.msgpack").tensors[":P"].numpy(), ROWS)
    raw = (tmp_path / "a.msgpack").read_bytes()
    assert raw.endswith(ROWS.tobytes())
    assert raw.startswith(b"\x81\xa6target\x81\xa7encoder" + b"\x81\xa6prompt" * 3 + b"\xc9")


def test_a_model_of_flax_without_a_prompt_is_none(tmp_path: Path) -> None:
    (tmp_path / "flax_model.msgpack").write_bytes(packed(nested(ROWS, "encoder", "layer", "kernel")))
    with pytest.raises(e.UnknownFormat):
        adaptr.load(tmp_path / "flax_model.msgpack")


@pytest.mark.parametrize(
    ("raw", "error", "match"),
    [
        (packed(whole())[:-60], e.ForeignError, "cut off"),
        (packed(nested(ROWS.astype(int), *PROMPT)), e.TensorUnknown, "an array of int64"),
        (
            packed(nested(ROWS, *PROMPT)).replace(b"float32", b"float64"),
            e.ForeignError,
            "32 bytes, which are no float64",
        ),
        (packed({"a": nested(ROWS, *PROMPT), "b": nested(ROWS, *PROMPT)}), e.Unsupported, "holds 2 prompts"),
        (packed(nested(ROWS[0], *PROMPT)), e.ConfigConflict, r"shape \(4,\)"),
        (packed(nested(ROWS[:0], *PROMPT)), e.ForeignError, r"0 bytes, which are no float32 of \[0, 4\]"),
        (packed(nested(ROWS.reshape(2, 4, *[1] * 9), *PROMPT)), e.ForeignError, "32 bytes, which are no float32"),
        (packed(whole() | {"optimizer.target.encoder": nested(ROWS, *PROMPT)}), e.ForeignError, "two prompts of one"),
        (b"\x82" + packed(nested(ROWS, *PROMPT))[3:] * 2, e.ForeignError, "a key twice"),
        (b"\x82" + b"\x81" * 40 + b"\xa1'" + bytes(40) + packed(nested(ROWS, *PROMPT))[3:], e.ForeignError, "no text"),
    ],
)
def test_a_checkpoint_that_is_not_true_is_refused(
    raw: bytes, error: type[Exception], match: str, tmp_path: Path
) -> None:
    (tmp_path / "x.msgpack").write_bytes(raw)
    with pytest.raises(error, match=match):
        foreign.get("t5x").read(tmp_path / "x.msgpack")


def chunked(folder: Path, value: np.ndarray, each: tuple[int, int] = (2, 3), **more: object) -> Path:
    """As TensorStore writes it: whole chunks, what is behind the edge too."""
    said = {
        "zarr_format": 2, "shape": list(value.shape), "chunks": list(each), "dtype": value.dtype.str, "order": "C",
        "compressor": {"id": "gzip", "level": 1}, "fill_value": None, "filters": None, **more,
    }  # fmt: skip
    folder.mkdir()
    (folder / ".zarray").write_text(json.dumps(said))
    for i, j in np.ndindex(*(-(-size // n) for size, n in zip(value.shape, each, strict=True))):
        part = np.zeros(each, value.dtype)
        here = value[i * each[0] : (i + 1) * each[0], j * each[1] : (j + 1) * each[1]]
        part[: here.shape[0], : here.shape[1]] = here
        (folder / f"{i}.{j}").write_bytes(gzip.compress(part.tobytes()))
    return folder


def test_an_array_in_chunks_alone_and_in_a_checkpoint(tmp_path: Path) -> None:
    value = np.random.default_rng(0).normal(size=(5, 4)).astype("<f4")
    folder = chunked(tmp_path / "target.encoder.prompt.prompt.prompt", value)
    chunked(tmp_path / "state.param_states.encoder.prompt.prompt.prompt", value + 1)
    (tmp_path / "checkpoint").write_bytes(packed({"version": 3, "optimizer": {}}))
    for place in (folder, tmp_path):
        assert np.array_equal(adaptr.load(place).tensors[":P"].numpy(), value)
    before = adaptr.inspect(folder).file_digest
    (folder / "0.0").write_bytes(gzip.compress(np.ones((2, 3), "<f4").tobytes()))
    assert adaptr.inspect(folder).file_digest != before


@pytest.mark.parametrize(
    ("more", "error", "match"),
    [
        ({"compressor": {"id": "blosc"}}, e.Unsupported, "packed by blosc"),
        ({"dtype": "|O"}, e.Unsupported, r"`.*zarray` is of zarr 2, \|O"),
        ({"order": "F"}, e.Unsupported, "in the order F"),
        ({"zarr_format": 3}, e.Unsupported, "of zarr 3"),
        ({"shape": [9, 4]}, e.TensorAbsent, "no chunk"),
        ({"chunks": [2, 9]}, e.ForeignError, "24 bytes, wanted 72"),
        ({"chunks": [0, 3]}, e.ForeignError, "has a 0"),
        ({"chunks": [2]}, e.ForeignError, "in chunks of"),
        ({"shape": [1 << 29, 1 << 29]}, e.ForeignError, "would be of"),
        ({"shape": "x"}, e.ForeignError, "no list of sizes"),
        ({"shape": [1] * 300, "chunks": [1] * 300}, e.ForeignError, "no list of sizes"),
        ({"chunks": [2, 1 << 26]}, e.ForeignError, "as no weights are"),
    ],
)
def test_an_array_in_chunks_that_is_not_true_is_refused(
    more: dict[str, object], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(chunked(tmp_path / "a", ROWS, **more))


def test_a_chunk_that_is_damaged_or_a_bomb_is_refused(tmp_path: Path) -> None:
    folder = chunked(tmp_path / "a", ROWS)
    good = (folder / "0.0").read_bytes()
    for raw, match in ((b"x", "is damaged"), (gzip.compress(bytes(1 << 20)), "25 bytes"), (good[:-4], "too early")):
        (folder / "0.0").write_bytes(raw)
        with pytest.raises(e.ForeignError, match=match):
            adaptr.load(folder)


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (np.ones(4), e.ConfigConflict, r"shape \(4,\), wanted a prompt, \(tokens, width\)"),
        (np.ones((2, 3, 4)), e.ConfigConflict, "wanted a prompt"),
        (np.ones((0, 4)), e.ConfigConflict, "wanted a prompt"),
        (np.ones((2, 4), int), e.ConfigConflict, "torch.int64"),
        (np.array([["a", "b"]]), e.TensorUnknown, "an array of <U1"),
        (np.array([[{}, {}]]), e.TensorUnknown, "an array of object"),
    ],
)
def test_what_is_no_prompt_is_refused(value: np.ndarray, error: type[Exception], match: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(saved(tmp_path, value))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("(2, 4)", "(9, 9)", r"64 bytes, and an array of \(9, 9\) has 648"),
        ("(2, 4)", "(2**9, )", "cut off or damaged"),
        ("'shape'", "'shade'", "cut off or damaged"),
    ],
)
def test_a_header_that_is_not_true_is_refused(old: str, new: str, match: str, tmp_path: Path) -> None:
    file = saved(tmp_path, np.ones((2, 4)))
    file.write_bytes(file.read_bytes().replace(old.encode(), new.encode()))
    with pytest.raises(e.ForeignError, match=match):
        adaptr.load(file)


def test_a_base_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.TargetMismatch, match=r"shape \(32,\) in the base"):
        adaptr.load(saved(tmp_path, np.ones((2, 3), "<f4")), tiny.model("t5"))


def test_what_has_no_place_in_an_array_is_said(tmp_path: Path) -> None:
    adapter = adaptr.load(saved(tmp_path, np.ones((2, 4), "<f4"))).replace(license="MIT")
    half = adapter.replace(tensors={":P": torch.ones(2, 4, dtype=torch.bfloat16)})
    with pytest.raises(e.LossyConversion, match="T5X can't hold the license, the precision of bf16"):
        adaptr.convert(half, tmp_path / "a.npy", to="t5x")
    lora = adaptr.create(tiny.model("llama"), "lora")
    with pytest.raises(e.Unsupported, match="T5X has no file of `lora` alone"):
        adaptr.convert(lora, tmp_path / "a.npy", to="t5x")
