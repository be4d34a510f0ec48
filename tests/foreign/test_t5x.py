"""T5X's prompts: arrays of numpy's alone, of the released ones what they are, and back to the byte."""

from __future__ import annotations

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
