"""Learned words: named alone, told of where they lie with an adapter, lost only where it is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import adaptr
from adaptr import errors as e
from adaptr.foreign import words
from foreign.test_kohya import saved

LAYER = "lora_te_text_model_encoder_layers_0_mlp_fc1"
WORDS = ("<s1>", "string_to_param", "emb_params", "clip_l", "clip_g", "bundle_emb.my.word.clip_l")
OTHERS = ("s1", "clip_l.text_model.encoder.layers.0.mlp.fc1.lora_up.weight", "<s1>.weight", "bundle_emb.word", "")


def kohya() -> dict[str, torch.Tensor]:
    return {
        f"{LAYER}.lora_down.weight": torch.randn(2, 8),
        f"{LAYER}.lora_up.weight": torch.randn(8, 2),
        f"{LAYER}.alpha": torch.tensor(2.0),
    }


def test_which_tensors_are_of_words() -> None:
    assert all(words.is_word(key) for key in WORDS)
    assert not any(words.is_word(key) for key in OTHERS)


@pytest.mark.parametrize("name", ["learned_embeds.safetensors", "learned_embeds.bin"])
@pytest.mark.parametrize("keys", [("<s1>",), ("emb_params",), ("clip_l", "clip_g")])
def test_alone_they_are_named_with_what_to_do(keys: tuple[str, ...], name: str, tmp_path: Path) -> None:
    tensors = {key: torch.randn(2, 8) for key in keys}
    file = tmp_path / name
    save_file(tensors, file) if name.endswith(".safetensors") else torch.save(tensors, file)
    with pytest.raises(e.UnknownFormat, match=r"textual-inversion embedding.*load_textual_inversion"):
        adaptr.load(file)


@pytest.mark.filterwarnings("ignore::adaptr.errors.WeightsIgnored")
def test_beside_an_adapter_they_are_told_of(tmp_path: Path) -> None:
    folder = tmp_path / "style"
    folder.mkdir()
    saved(folder, kohya())
    save_file({"<s1>": torch.randn(8)}, folder / "learned_embeds.safetensors")
    assert adaptr.inspect(folder).beside == ("learned_embeds.safetensors",)
    assert adaptr.convert(folder, tmp_path / "a.safetensors").beside == ("learned_embeds.safetensors",)
    with pytest.warns(e.WeightsIgnored, match=r"learned_embeds\.safetensors"):
        adaptr.load(folder)


def test_bundled_with_a_lora_they_are_lost_only_where_that_is_wanted(tmp_path: Path) -> None:
    file = saved(tmp_path, kohya() | {"bundle_emb.cat.clip_l": torch.randn(2, 8)})
    with pytest.warns(e.WeightsIgnored, match=r"bundle_emb\.cat\.clip_l` \(2, 8\)"):
        assert len(adaptr.load(file).targets) == 1
    with pytest.warns(e.WeightsIgnored), pytest.raises(e.LossyConversion, match=r"bundle_emb\.cat"):
        adaptr.convert(file, tmp_path / "out.safetensors")
