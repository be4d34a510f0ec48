"""AdapterHub's heads: taken where a model of transformers has the same, else left out and said. That all kinds do the
same, read and written, is held by `oracles/adapterhub-heads`.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import linear

import adaptr
from adaptr import errors as e
from hub_folders import LORA, saved, there

SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 20}
DISTILBERT = {"dim": 8, "hidden_dim": 8, "n_heads": 2, "n_layers": 1, "vocab_size": 20}
#: Model to its sizes, the layer that a LoRA is of, and what its head has between its layers.
MODELS: dict[str, tuple[dict[str, int], str, str]] = {
    "Bert": (SIZES, "bert.encoder.layer.0.attention.self.query", "tanh"),
    "Roberta": (SIZES, "roberta.encoder.layer.0.attention.self.query", "tanh"),
    "Electra": (SIZES, "electra.encoder.layer.0.attention.self.query", "gelu"),
    "DistilBert": (DISTILBERT, "distilbert.transformer.layer.0.attention.q_lin", "relu"),
}


def classifier(name: str) -> Any:
    import transformers as t

    config = getattr(t, f"{name}Config")(**MODELS[name][0], num_labels=3)
    return getattr(t, f"{name}ForSequenceClassification")(config).eval()


def folder(
    place: Path, name: str, layers: int = 2, labels: int = 3, **said: Any
) -> tuple[Path, dict[str, torch.Tensor]]:
    """A LoRA with a head beside it, and the head's tensors."""
    at = f"{MODELS[name][1]}.loras.mine"
    saved(place, {f"{at}.lora_A": torch.randn(2, 8), f"{at}.lora_B": torch.randn(8, 2)}, LORA, model_type="bert")
    sizes = [8] * (layers - 1) + [labels]
    head = {
        f"heads.mine.{1 + 3 * n}.{part}": torch.randn((size, 8) if part == "weight" else (size,))
        for n, size in enumerate(sizes)
        for part in ("weight", "bias")
    }
    save_file(head, place / "model_head.safetensors")
    config = {"head_type": "classification", "layers": layers, "use_pooler": False, "bias": True}
    between = {"activation_function": MODELS[name][2]}
    (place / "head_config.json").write_text(json.dumps({"config": {**config, **between, **said}}))
    return place, head


@pytest.mark.parametrize("name", MODELS)
def test_a_head_that_a_model_has_too_is_its_head(name: str, tmp_path: Path) -> None:
    model, ids = classifier(name), torch.arange(6)[None] + 3
    place, head = folder(tmp_path / "a", name)
    made = adaptr.load(place, model)
    assert len(made.replaced_paths) == 4
    with torch.no_grad(), adaptr.attach(model, made):
        found, z = model(input_ids=ids).logits, model.base_model(input_ids=ids)[0][:, 0]
    inner = getattr(torch.nn.functional, MODELS[name][2])(
        linear(z, head["heads.mine.1.weight"], head["heads.mine.1.bias"])
    )
    torch.testing.assert_close(found, linear(inner, head["heads.mine.4.weight"], head["heads.mine.4.bias"]))


@pytest.mark.parametrize(
    ("name", "case"), [("bert", "double_seq_bn"), ("gpt2", "seq_bn"), ("llama", "seq_bn")], ids=lambda one: one
)
def test_a_genuine_one_gives_its_logits(name: str, case: str, shared: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    place = there(shared, name, case)
    base, want = place.parent / "base", load_file(place / "expected.safetensors")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, attn_implementation="eager").eval()
    model.config.pad_token_id = 0
    for container in ("bin", "st"):
        with torch.no_grad(), adaptr.attach(model, adaptr.load(place / container, model)):
            out = model(input_ids=want["input_ids"], attention_mask=want["attention_mask"]).logits
        torch.testing.assert_close(out, want["out"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"head_type": "tagging"}, "it is of `tagging`"),
        ({"head_type": ["tagging"]}, "it is of `['tagging']`"),
        ({"use_pooler": True}, "the base's pooler"),
        ({"layers": 1}, "it has 1 layers, and the model's 2"),
        ({"activation_function": "gelu"}, "it has `gelu` between its layers, and the model `tanh`"),
        ({"labels": 5}, "it has shapes"),
        ({"head_type": "dependency_parsing"}, "it is of `dependency_parsing`, and the model's of"),
    ],
)
def test_another_is_left_out_with_the_reason(said: dict[str, Any], match: str, tmp_path: Path) -> None:
    place, _ = folder(tmp_path / "a", "Bert", **said)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert not adaptr.load(place, classifier("Bert")).replaced_paths
    said_so = [str(one.message) for one in told if one.category is e.WeightsIgnored]
    assert any("is left out" in one and match in one for one in said_so)
    assert any("`model_head.safetensors`; they are not used" in one for one in said_so)
