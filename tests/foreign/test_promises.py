"""A PEFT configuration is a promise: what it names and the file has not is an error, and what PEFT itself writes, with
lists for many architectures, tied tables and heads of tasks, is none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import adaptr
import renamed
from adaptr import errors as e
from peft_models import SMALL, bert, gpt2, gpt_oss, llama, made, mixtral, outputs, t5

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own


def tied() -> nn.Module:
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=True)
    return transformers.LlamaForCausalLM(config)


def classes() -> nn.Module:
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, num_labels=3, pad_token_id=0)
    return transformers.LlamaForSequenceClassification(config)


def written(peft: Any, path: Path, build: Callable[[], nn.Module], config: Any) -> nn.Module:
    """PEFT's adapter of that configuration in `path`/a, its base in `path`/base."""
    model = made(build)
    model.save_pretrained(path / "base")
    peft.get_peft_model(made(build), config).save_pretrained(path / "a")
    return model


def thinned(path: Path, *words: str, **fields: Any) -> Path:
    """A copy of the adapter without the tensors that have one of these words in their names."""
    out = path.parent / "thin"
    shutil.copytree(path, out)
    tensors = load_file(path / "adapter_model.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if not any(word in key for word in words)}
    assert len(kept) < len(tensors) or not words
    save_file(kept, out / "adapter_model.safetensors")
    config = json.loads((path / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps({**config, **fields}))
    return out


#: Name to (model, arguments of the configuration, what is taken away, a word of the message, is it known without base).
ABSENT: Mapping[str, tuple[Callable[[], nn.Module], dict[str, Any], str, str, bool]] = {
    "head": (llama, {"modules_to_save": ["lm_head"]}, "lm_head", "lm_head", True),
    "head of two": (llama, {"modules_to_save": ["norm", "lm_head"]}, "lm_head", "lm_head", True),
    "tied head": (tied, {"modules_to_save": ["lm_head"]}, "lm_head", "lm_head", True),
    "one of the norms": (
        llama,
        {"modules_to_save": ["input_layernorm"]},
        "layers.1.input_layernorm",
        "model.layers.1.input_layernorm.weight",
        False,
    ),
    "head of a task": (classes, {"task_type": "SEQ_CLS"}, "score", "classifier|score", True),
    "bias of a head": (bert, {"target_modules": ["query"], "task_type": "SEQ_CLS"}, "classifier.bias", "bias", False),
    "layer": (llama, {}, "layers.1.", "model.layers.1.self_attn.q_proj` and 1 more", False),
    "listed name": (llama, {}, "v_proj", "v_proj", True),
    "layer of a number": (llama, {"layers_to_transform": [0, 1]}, "layers.1.", "layer", True),
    "layer of a pattern": (llama, {"target_modules": r".*\.self_attn\.[qv]_proj"}, "layers.0.", "layers.0", False),
    "name of a pattern": (llama, {"target_modules": r".*\.self_attn\.[qv]_proj"}, "v_proj", "v_proj", False),
    "fused layer": (gpt2, {"target_modules": ["c_attn", "c_fc"]}, "c_fc", "c_fc", True),
    "decoder": (t5, {"target_modules": ["q", "v"]}, "decoder.block.1", "decoder.block.1", False),
    "biases": (bert, {"target_modules": ["query"], "bias": "all"}, "dense.bias", "dense.bias", False),
    "own biases": (bert, {"target_modules": ["query"], "bias": "lora_only"}, "1.attention.self.query.b", "bias", False),
    "table": (llama, {"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens", "embed_tokens", True),
}  # fmt: skip


def lora(peft: Any, **given: Any) -> Any:
    return peft.LoraConfig(**{"target_modules": ["q_proj", "v_proj"], "r": 2, **given})


@pytest.mark.parametrize("name", ABSENT)
def test_absent(peft: Any, name: str, tmp_path: Path) -> None:
    build, given, gone, word, _ = ABSENT[name]
    model = written(peft, tmp_path, build, lora(peft, **given))
    thin = thinned(tmp_path / "a", gone)
    for base in (tmp_path / "base", model):
        with pytest.raises(e.TensorAbsent, match=word):
            adaptr.load(thin, base=base)


@pytest.mark.parametrize("name", [name for name, case in ABSENT.items() if case[4]])
def test_absent_by_name_alone(peft: Any, name: str, tmp_path: Path) -> None:
    build, given, gone, word, _ = ABSENT[name]
    written(peft, tmp_path, build, lora(peft, **given))
    with pytest.raises(e.TensorAbsent, match=rf"({word}).*give it \(`base=`\)"):
        adaptr.load(thinned(tmp_path / "a", gone))


@pytest.mark.parametrize("kind", ["AdaLoraConfig", "LoHaConfig", "LoKrConfig", "IA3Config", "VeraConfig", "OFTConfig"])
def test_absent_of_another_type(peft: Any, kind: str, tmp_path: Path) -> None:
    own = {
        "AdaLoraConfig": {"total_step": 9},
        "IA3Config": {"feedforward_modules": []},
        "OFTConfig": {"oft_block_size": 8},
    }
    config = getattr(peft, kind)(target_modules=["q_proj", "v_proj"], **own.get(kind, {}))
    written(peft, tmp_path, llama, config)
    with pytest.raises(e.TensorAbsent, match=r"layers\.1\.self_attn\.q_proj.*or give the base it was trained on"):
        adaptr.load(thinned(tmp_path / "a", "layers.1."), base=tmp_path / "base")


def test_triplets_that_adalora_counted(peft: Any, tmp_path: Path) -> None:
    path = "model.layers.1.self_attn.q_proj"
    written(peft, tmp_path, llama, peft.AdaLoraConfig(target_modules=r".*q_proj", total_step=9, init_r=3))
    thin = thinned(tmp_path / "a", path, rank_pattern={f"{path}.lora_E": [True, False, True]})
    with pytest.raises(e.TensorAbsent, match="rank_pattern"):
        adaptr.load(thin)


def test_absent_stack_of_experts(peft: Any, tmp_path: Path) -> None:
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    written(peft, tmp_path, gpt_oss, peft.LoraConfig(r=2, target_modules=["q_proj"], target_parameters=parameters))
    with pytest.raises(e.TensorAbsent, match=r"layers\.1\.mlp\.experts\.gate_up_proj"):
        adaptr.load(thinned(tmp_path / "a", "layers.1.mlp.experts.base_layer"), base=tmp_path / "base")


def test_what_was_read_without_a_base_is_held_against_it_later(peft: Any, tmp_path: Path) -> None:
    model = written(peft, tmp_path, llama, lora(peft))
    thin = thinned(tmp_path / "a", "layers.1.")
    adaptr.convert(thin, tmp_path / "x.adaptr.safetensors")
    for call in (adaptr.attach, adaptr.train):
        with pytest.raises(e.TensorAbsent, match=r"layers\.1"):
            call(model, adaptr.load(thin))
    for source in (adaptr.load(thin), tmp_path / "x.adaptr.safetensors"):
        with pytest.raises(e.TensorAbsent, match=r"layers\.1"):
            adaptr.merge(tmp_path / "base", [source], tmp_path / "out")
    with pytest.raises(e.TensorAbsent, match=r"layers\.1"):
        adaptr.stack(model, {"thin": tmp_path / "x.adaptr.safetensors"})
    assert not (tmp_path / "out").exists()


def test_what_was_changed_on_purpose_promises_nothing(peft: Any, tmp_path: Path) -> None:
    model = written(peft, tmp_path, llama, lora(peft))
    adapter = adaptr.load(tmp_path / "a")
    targets = {path: target for path, target in adapter.targets.items() if "layers.1." in path}
    tensors = {key: adapter.tensors[key] for key in adapter.tensors if "layers.1." in key}
    with adaptr.attach(model, adapter.replace(targets=targets, tensors=tensors)) as handle:
        assert len(handle.states) == 2


#: What PEFT writes and must be read: (model, arguments, is it read without its base too).
WRITTEN: Mapping[str, tuple[Callable[[], nn.Module], dict[str, Any], bool]] = {
    "names of other models": (llama, {"target_modules": ["q_proj", "query", "c_attn", "Wqkv"]}, True),
    "names of no model": (llama, {"target_modules": ["q_proj", "nonsense"]}, False),
    "saved names of other models": (llama, {"modules_to_save": ["wte", "lm_head"]}, False),
    "layers": (llama, {"layers_to_transform": [1], "layers_pattern": "layers"}, True),
    "one layer": (llama, {"layers_to_transform": 1}, True),
    "without": (llama, {"target_modules": "all-linear", "exclude_modules": ["k_proj"]}, True),
    "pattern": (llama, {"target_modules": r".*layers\.0\..*_proj"}, True),
    "tied head": (tied, {"modules_to_save": ["lm_head"]}, True),
    "tied table": (tied, {"modules_to_save": ["embed_tokens"]}, True),
    "tied on": (tied, {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, True),
    "tied lora": (tied, {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True}, True),
    "task": (classes, {"task_type": "SEQ_CLS"}, True),
    "task with all": (classes, {"task_type": "SEQ_CLS", "target_modules": "all-linear"}, True),
    "biases and a head": (bert, {"target_modules": ["query"], "modules_to_save": ["classifier"], "bias": "all"}, True),
    "its biases": (bert, {"target_modules": ["query", "dense"], "bias": "lora_only"}, True),
    "no biases": (llama, {"bias": "all"}, True),
    "shared tables": (t5, {"target_modules": ["q"], "modules_to_save": ["embed_tokens"]}, True),
    "shared table": (t5, {"target_modules": ["q", "embed_tokens"]}, True),
    "experts of old names": (mixtral, {"target_modules": ["q_proj", "w1", "w2", "w3"]}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_what_peft_writes_is_read(peft: Any, name: str, tmp_path: Path) -> None:
    build, given, alone = WRITTEN[name]
    model = written(peft, tmp_path, build, lora(peft, **given))
    for base in (tmp_path / "base", model, *([None] if alone else [])):
        assert adaptr.load(tmp_path / "a", base=base).targets


def test_an_adapter_of_a_part_of_the_base(peft: Any, tmp_path: Path) -> None:
    """Names without the base's prefix; other parts, which have layers of the same names, are not missed."""
    model = made(t5)
    model.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(target_modules=["q"], r=2)
    peft.get_peft_model(made(t5).encoder, config).save_pretrained(tmp_path / "a")
    assert adaptr.load(tmp_path / "a", base=tmp_path / "base").targets
    with pytest.raises(e.TensorAbsent, match=r"block\.1"):
        adaptr.load(thinned(tmp_path / "a", "block.1."), base=tmp_path / "base")


@pytest.mark.parametrize("kind", ["llava", "gemma3"])
def test_layers_that_the_checkpoint_calls_otherwise(peft: Any, kind: str, tmp_path: Path) -> None:
    """The names in memory are not those on disk: what is missing is asked of the model's class."""
    renamed.model(kind).save_pretrained(tmp_path / "base")
    peft.get_peft_model(renamed.model(kind), lora(peft)).save_pretrained(tmp_path / "a")
    assert adaptr.load(tmp_path / "a", base=tmp_path / "base").targets
    with pytest.raises(e.TensorAbsent, match=r"language_model\.layers\.1"):
        adaptr.load(thinned(tmp_path / "a", "language_model.layers.1."), base=tmp_path / "base")


def test_layers_that_the_model_does_not_use(peft: Any, tmp_path: Path) -> None:
    """Checkpoints hold layers for predicting several tokens, which are no modules."""
    written(peft, tmp_path, llama, lora(peft))
    weights = tmp_path / "base" / "model.safetensors"
    more = {"model.layers.2.self_attn.q_proj.weight": torch.ones(32, 32)}
    save_file({**load_file(weights), **more}, weights, metadata={"format": "pt"})
    assert adaptr.load(tmp_path / "a", base=tmp_path / "base").targets


def test_a_base_without_weights_says_which_modules_it_has(peft: Any, tmp_path: Path) -> None:
    written(peft, tmp_path, llama, lora(peft))
    (tmp_path / "base" / "model.safetensors").unlink()
    assert adaptr.load(tmp_path / "a", base=tmp_path / "base").targets
    with pytest.raises(e.TensorAbsent, match=r"layers\.1"):
        adaptr.load(thinned(tmp_path / "a", "layers.1."), base=tmp_path / "base")


@pytest.mark.parametrize("given", [{"layers_to_transform": ["0"]}, {"target_modules": 3}, {"exclude_modules": [3]}])
def test_fields_of_other_types(peft: Any, given: dict[str, Any], tmp_path: Path) -> None:
    written(peft, tmp_path, llama, lora(peft))
    with pytest.raises((e.ConfigConflict, e.TensorUnknown)):
        adaptr.load(thinned(tmp_path / "a", **given), base=tmp_path / "base")


def test_experts_of_old_names_give_what_peft_gives(peft: Any, tmp_path: Path) -> None:
    """PEFT turns the names of experts apart into stacks, named without their module."""
    from peft_models import scrambled

    theirs = peft.get_peft_model(made(mixtral), lora(peft, target_modules=["q_proj", "w1", "w2", "w3"])).eval()
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "a")
    model = made(mixtral)
    with adaptr.attach(model, adaptr.load(tmp_path / "a", base=model)):
        assert float((outputs(model) - outputs(theirs)).abs().max()) <= 1e-5
