"""The names in folders that go to other tools: those of the base, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers as t
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from torch import nn

import adaptr
import checkpoints as c
import renamed
import tiny
from adaptr import api
from adaptr.adapter import Adapter, Base
from adaptr.errors import TargetNotFound, Unsupported
from adaptr.testing import assert_close, shaken

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

SERVERS = ("vllm", "sglang", "lorax")


def adapter(model: nn.Module, old: str = "", new: str = "", targets: str = "attn.q") -> Adapter:
    """A LoRA with `old` in its names replaced by `new`."""
    one = shaken(adaptr.create(model, "lora", targets, r=2))
    return one.renamed({p: p.replace(old, new, 1) for p in one.targets}).replace(base=Base()) if old else one


def exported(one: Adapter, folder: Path, server: str = "", base: Path | nn.Module | None = None) -> Adapter:
    adaptr.save(one, folder / "a.safetensors", force=True)
    if server:
        api.serve(folder / "a.safetensors", folder / "out", server, base=base)
    else:
        adaptr.convert(folder / "a.safetensors", folder / "out", to="peft", base=base)
    return adaptr.load(folder / "out")


REPAIRED = [
    ("model.", ""),
    ("model.", "base_model.model.model."),
    ("model.", "module.model."),
    ("model.", "model.model."),
    (".self_attn.", "._checkpoint_wrapped_module.self_attn."),
    ("model.", "_orig_mod.model."),
]
UNKNOWN = [("model.", "thinker.model."), ("model.", "policy.model."), (".q_proj", ".query")]


@pytest.mark.parametrize(("old", "new"), REPAIRED)
@pytest.mark.parametrize("server", ["", *SERVERS])
def test_with_a_base_names_are_those_of_the_model(tmp_path: Path, server: str, old: str, new: str) -> None:
    base = c.saved("llama", tmp_path / "base")
    found = exported(adapter(c.model_of(base), old, new), tmp_path, server, base)
    beside = {f"model.layers.{i}.self_attn.v_proj" for i in (0, 1)} if server == "sglang" else set()
    assert set(found.targets) == {f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)} | beside


@pytest.mark.parametrize(("old", "new"), UNKNOWN)
@pytest.mark.parametrize("server", ["", *SERVERS])
def test_with_a_base_a_name_that_it_has_not_is_refused(tmp_path: Path, server: str, old: str, new: str) -> None:
    base = c.saved("llama", tmp_path / "base")
    with pytest.raises(TargetNotFound):
        exported(adapter(c.model_of(base), old, new), tmp_path, server, base)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("old", "new"), [*REPAIRED[:4], *UNKNOWN[:2], (".q_proj", ".q_proj.base_layer")])
@pytest.mark.parametrize("server", SERVERS)
def test_without_a_base_a_name_that_no_server_gives_is_refused(tmp_path: Path, server: str, old: str, new: str) -> None:
    with pytest.raises(Unsupported, match="base="):
        exported(adapter(tiny.model("llama"), old, new), tmp_path, server)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "neox", "bloom", "opt", "qwen2", "gemma3"])
def test_without_a_base_the_names_of_models_that_are_served_pass(tmp_path: Path, kind: str) -> None:
    one = adapter(tiny.model(kind), targets="attn.q|attn.qkv")
    assert set(exported(one, tmp_path, "vllm").targets) == set(one.targets)


@pytest.mark.parametrize("kind", renamed.LANGUAGE)
@pytest.mark.parametrize("server", SERVERS)
def test_language_models_inside_others_pass(tmp_path: Path, kind: str, server: str) -> None:
    one = adapter(renamed.model(kind), targets=["*.language_model.*.q_proj", "*.language_model.*.v_proj"])
    assert set(exported(one, tmp_path, server).targets) == set(one.targets)


def test_wrappers_between_the_parts_of_a_name_go_without_a_base(tmp_path: Path) -> None:
    """They pass everything on, so what is behind them is the layer."""
    one = adapter(tiny.model("llama"), ".self_attn.", "._checkpoint_wrapped_module.self_attn._orig_mod.")
    for folder, server in ((tmp_path / "a", ""), (tmp_path / "b", "vllm")):
        folder.mkdir()
        assert set(exported(one, folder, server).targets) == {f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)}


@pytest.mark.parametrize(("old", "new"), [("model.", "base_model.model.model."), ("model.", "module.model.")])
def test_peft_without_a_base_gets_no_name_of_a_wrapper(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(Unsupported, match="wrapper"):
        exported(adapter(tiny.model("llama"), old, new), tmp_path)


def test_a_base_without_its_head_has_no_names_for_a_server(tmp_path: Path) -> None:
    model = tiny.model("llama").model
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(Unsupported, match="without its head"):
        exported(adapter(model), tmp_path, "vllm", tmp_path / "base")


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "gemma3", "vit"])
@pytest.mark.parametrize("live", [True, False])
def test_names_of_a_checkpoint_become_those_that_peft_looks_for(tmp_path: Path, kind: str, live: bool) -> None:
    """The weights of the base are still told by their digest, which is that of the new names."""
    model = renamed.model(kind)
    model.save_pretrained(tmp_path / "base")
    one = shaken(adaptr.create(model, "lora", "attn.q", r=2))
    with adaptr.attach(model, one):
        want = renamed.said(model)
    names = {"llava": ("model.language_model.", "language_model.model."), "vit": ("vit.layers.", "vit.encoder.layer.")}
    old = {path: path.replace(*names.get(kind, ("model.language_model.", "model.")), 1) for path in one.targets}
    found = exported(one.renamed(old), tmp_path, base=model if live else tmp_path / "base")
    assert found.base.content == one.base.content
    theirs = PeftModel.from_pretrained(renamed.model(kind), tmp_path / "out").eval()
    assert_close(renamed.said(theirs.get_base_model()), want, 1e-5)


def test_the_class_in_a_peft_configuration_follows_the_names(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    get_peft_model(c.model_of(base).model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "a")
    adaptr.convert(tmp_path / "a", tmp_path / "out", to="peft", base=base)
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["auto_mapping"]["base_model_class"] == "LlamaForCausalLM"


HEADS = [
    ("LlamaForCausalLM", "LlamaForSequenceClassification", "SEQ_CLS"),
    ("BertForMaskedLM", "BertForTokenClassification", "TOKEN_CLS"),
]


@pytest.mark.parametrize(("stored", "trained", "task"), HEADS)
def test_a_head_that_the_adapter_brings_is_no_stranger(tmp_path: Path, stored: str, trained: str, task: str) -> None:
    """PEFT trains a classifier on the checkpoint of a language model, whose class has none."""
    config = t.LlamaConfig(**tiny.GROUPED) if "Llama" in stored else t.BertConfig(**tiny.COMMON)
    getattr(t, stored)(config).save_pretrained(tmp_path / "base")
    wanted = "q_proj" if "Llama" in stored else "query"
    model = getattr(t, trained).from_pretrained(tmp_path / "base")
    get_peft_model(model, LoraConfig(r=2, target_modules=[wanted], task_type=task)).save_pretrained(tmp_path / "a")
    adaptr.convert(tmp_path / "a", tmp_path / "a.safetensors", base=tmp_path / "base")
    for base in (tmp_path / "base", c.model_of(tmp_path / "base")):
        adaptr.convert(tmp_path / "a.safetensors", tmp_path / "back", to="peft", base=base, force=True)
        assert c.tensors_of(tmp_path / "back").keys() == c.tensors_of(tmp_path / "a").keys()


def test_a_table_that_the_adapter_brings_has_its_own_size(tmp_path: Path) -> None:
    c.saved("llama", tmp_path / "base")
    model = c.model_of(tmp_path / "base")
    model.resize_token_embeddings(tiny.VOCAB + 4, mean_resizing=False)
    config = LoraConfig(r=2, target_modules=["q_proj", "embed_tokens", "lm_head"], task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(tmp_path / "a", save_embedding_layers=True)
    adaptr.convert(tmp_path / "a", tmp_path / "a.safetensors", base=tmp_path / "base")
    adaptr.convert(tmp_path / "a.safetensors", tmp_path / "back", to="peft", base=tmp_path / "base")
    assert c.tensors_of(tmp_path / "back").keys() == c.tensors_of(tmp_path / "a").keys()


def test_the_task_of_a_model_without_its_head_follows_the_names(tmp_path: Path) -> None:
    c.saved("llama", tmp_path / "base")
    model = t.AutoModel.from_pretrained(tmp_path / "base")
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="FEATURE_EXTRACTION")
    get_peft_model(model, config).save_pretrained(tmp_path / "a")
    adaptr.convert(tmp_path / "a", tmp_path / "back", to="peft", base=tmp_path / "base")
    said = json.loads((tmp_path / "back/adapter_config.json").read_text())
    assert said["task_type"] == "CAUSAL_LM"
    # where the base lies is not in what adaptr writes
    (tmp_path / "back/adapter_config.json").write_text(
        json.dumps({**said, "base_model_name_or_path": str(tmp_path / "base")})
    )
    AutoPeftModelForCausalLM.from_pretrained(tmp_path / "back")
