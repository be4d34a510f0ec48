"""What is written of models of other types. That its library computes the same, `oracles/adapterhub-written` holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers as t
from safetensors.torch import load_file

import adaptr
from adaptr import errors as e
from adaptr import foreign

SIZES = {"d_model": 8, "decoder_start_token_id": 2, "vocab_size": 20}
BART = {**SIZES, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
WIDE = {"encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
SEEN = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}


def bart() -> Any:
    return t.BartModel(t.BartConfig(**BART, **WIDE, bos_token_id=0, pad_token_id=1, eos_token_id=2))


def vit() -> Any:
    return t.ViTModel(t.ViTConfig(**SEEN, image_size=16, patch_size=8))


def clip() -> Any:
    return t.CLIPTextModel(t.CLIPTextConfig(**SEEN, vocab_size=20, bos_token_id=1, eos_token_id=2))


def written(model: Any, out: Path, *args: Any, **config: Any) -> tuple[dict[str, Any], list[str]]:
    """The configuration and the names of the tensors."""
    form = foreign.get("adapterhub")
    made = adaptr.create(model, *args, **config)
    found = form.write(form.based(made, model), out)
    assert set(found.renamed) == set(made.tensors)
    names = list(load_file(out / "adapter.safetensors"))
    return json.loads((out / "adapter_config.json").read_text())["config"], names


def test_a_decoders_layers_are_counted_behind_its_encoders(tmp_path: Path) -> None:
    said, names = written(
        bart(), tmp_path / "a", "houlsby", [r"re:.*decoder\.layers\.1\..*(fc2|encoder_attn\.out_proj)"], m=2
    )
    assert said["leave_out"] == [0, 1, 2]
    assert (said["mh_adapter"], said["cross_adapter"], said["output_adapter"]) == (False, True, True)
    assert {name.partition(".adapters.")[0] for name in names} == {
        "decoder.layers.1.cross_attention_adapters", "decoder.layers.1.output_adapters"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("targets", "match"),
    [
        (["re:.*encoder.layers.*fc2", "re:.*decoder.*self_attn.out_proj"], "one set of places for all layers"),
        (["re:.*decoder.layers.0.fc2", "re:.*decoder.layers.1.self_attn.out_proj"], "same modules in every layer"),
    ],
)
def test_what_layers_have_is_one(targets: list[str], match: str, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=match):
        written(bart(), tmp_path / "a", "houlsby", targets, m=2)


def test_a_lora_is_at_all_attentions_of_a_layer(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=r"none at `encoder_attn\.q_proj`"):
        written(bart(), tmp_path / "a", "lora", ["re:.*self_attn.q_proj"], r=2)
    said, _ = written(bart(), tmp_path / "b", "lora", ["re:.*_attn.q_proj"], r=2)
    assert said["attn_matrices"] == ["q"]


def test_places_are_called_as_older_transformers_calls_them(tmp_path: Path) -> None:
    said, names = written(vit(), tmp_path / "a", "pfeiffer", m=2, residual=True)
    assert said["original_ln_before"]
    assert names[0].startswith("encoder.layer.0.output.output_adapters.adapters.")
    _, names = written(vit(), tmp_path / "b", "lora", ["attn.q"], r=2)
    assert names[0].startswith("encoder.layer.0.attention.attention.query.loras.")
    _, names = written(clip(), tmp_path / "c", "lora", ["attn.q"], r=2)
    assert names[0].startswith("text_model.encoder.layers.0.self_attn.q_proj.loras.")


def test_what_has_no_place_in_a_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="prefixes of CLIP"):
        written(clip(), tmp_path / "a", "prefix", tokens=2)
    with pytest.raises(e.Unsupported, match="invertible adapters of models of type `bart`"):
        written(bart(), tmp_path / "b", "invertible", ["re:encoder.embed_tokens"])


def test_of_albert_what_is_behind_its_attention_is_said_to_be_beside(tmp_path: Path) -> None:
    sizes = {**SEEN, "embedding_size": 4, "vocab_size": 20}
    model = t.AlbertModel(t.AlbertConfig(**sizes, bos_token_id=1, eos_token_id=2))
    said, _ = written(model, tmp_path / "a", "houlsby", ["re:.*attention.output_dropout"], m=2)
    assert said["is_parallel"]
    said, _ = written(model, tmp_path / "b", "houlsby", ["re:.*ffn_output"], m=2)
    assert not said["is_parallel"]
    with pytest.raises(e.Unsupported, match="one set-up for all layers"):
        written(model, tmp_path / "c", "houlsby", m=2)
