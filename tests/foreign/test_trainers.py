"""What trainers leave: folders of models around an adapter, wrapped names, and files that are no adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import adaptr
from adaptr import errors as e
from peft_models import IDS, SMALL, llama, made, outputs, scrambled

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def adapter(peft: Any, tmp_path: Path) -> Path:
    """PEFT's LoRA in a folder, what it gives beside."""
    theirs = peft.get_peft_model(made(llama), peft.LoraConfig(target_modules=["q_proj", "up_proj"], r=3)).eval()
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "a")
    save_file({"logits": outputs(theirs)}, tmp_path / "wanted.safetensors")
    return tmp_path / "a"


def require_same(adapter: Path, wanted: Path) -> None:
    model = made(llama)
    with adaptr.attach(model, adaptr.load(adapter)):
        assert float((outputs(model) - load_file(wanted)["logits"]).abs().max()) <= 1e-5


#: What stands before the names, or instead of what PEFT puts there.
WRAPPED = ("pretrained_model.", "base_model.model.", "module.", "_orig_mod.", "module._orig_mod.")


@pytest.mark.parametrize("before", WRAPPED)
def test_names_of_wrapped_models(before: str, adapter: Path, tmp_path: Path) -> None:
    tensors = load_file(adapter / WEIGHTS)
    save_file({before + key: tensor for key, tensor in tensors.items()}, adapter / WEIGHTS)
    require_same(adapter, tmp_path / "wanted.safetensors")


@pytest.mark.parametrize("inside", ["", "0_Transformer"])
def test_a_model_of_sentence_transformers(peft: Any, inside: str, tmp_path: Path) -> None:
    """It saves its transformer as transformers does, which asks PEFT for the adapter alone."""
    config = transformers.BertConfig(**SMALL, max_position_embeddings=64)
    torch.manual_seed(0)
    bare = transformers.BertModel(config).eval()
    bare.save_pretrained(tmp_path / "base")
    theirs = transformers.BertModel.from_pretrained(tmp_path / "base").eval()
    theirs.add_adapter(peft.LoraConfig(target_modules=["query"], r=3, task_type="FEATURE_EXTRACTION"))
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "st" / inside)
    listed = [{"idx": 0, "name": "0", "path": inside, "type": "sentence_transformers.models.Transformer"}]
    (tmp_path / "st" / "modules.json").write_text(json.dumps(listed))
    (tmp_path / "st" / "1_Pooling").mkdir()
    (tmp_path / "st" / "1_Pooling" / "config.json").write_text("{}")
    ids = torch.tensor([[5, 7, 11, 2]])
    with torch.no_grad():
        want = theirs(ids).last_hidden_state
        with adaptr.attach(bare, adaptr.load(tmp_path / "st", base=tmp_path / "base")):
            assert float((bare(ids).last_hidden_state - want).abs().max()) <= 1e-5


def test_a_model_of_sentence_transformers_with_two_adapters_is_asked_about(adapter: Path, tmp_path: Path) -> None:
    for name in ("0_Transformer", "1_Router"):
        (tmp_path / "st" / name).mkdir(parents=True)
        for file in adapter.iterdir():
            (tmp_path / "st" / name / file.name).write_bytes(file.read_bytes())
    (tmp_path / "st" / "modules.json").write_text("[]")
    with pytest.raises(e.UnknownFormat, match=r"0_Transformer.*1_Router"):
        adaptr.load(tmp_path / "st")


def test_a_folder_of_a_training_names_its_last_checkpoint(adapter: Path, tmp_path: Path) -> None:
    for step in (500, 1000):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir(parents=True)
        for file in adapter.iterdir():
            (tmp_path / "run" / f"checkpoint-{step}" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(e.UnknownFormat, match=r"folder of a training; .*the last is `[^`]*checkpoint-1000`"):
        adaptr.load(tmp_path / "run")
    require_same(tmp_path / "run" / "checkpoint-1000", tmp_path / "wanted.safetensors")


def test_a_folder_of_a_training_of_whole_models(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoint-7").mkdir(parents=True)
    save_file({"model.norm.weight": torch.ones(2)}, tmp_path / "run" / "checkpoint-7" / "model.safetensors")
    with pytest.raises(e.UnknownFormat, match=r"hold no adapter.*adaptr extract BASE .*checkpoint-7"):
        adaptr.load(tmp_path / "run")


#: Files that are no adapters, and what they are called.
OTHERS = {
    "optimizer.pt": "what a training needs to go on",
    "scheduler.pt": "what a training needs to go on",
    "rng_state_0.pth": "what a training needs to go on",
    "training_args.bin": "what a training needs to go on",
    "trainer_state.json": "what a training needs to go on",
    "tokenizer.json": "a tokenizer",
    "tokenizer.model": "a tokenizer",
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_adapter_says_what_it_is(name: str, tmp_path: Path) -> None:
    torch.save({"state": {0: {"exp_avg": torch.ones(2)}}}, tmp_path / name)
    with pytest.raises(e.UnknownFormat, match=f"is {OTHERS[name]}"):
        adaptr.load(tmp_path / name)
    if Path(name).suffix != ".json" or OTHERS[name] == "a tokenizer":
        with pytest.raises(e.UnknownFormat, match=f"is {OTHERS[name]}"):
            adaptr.load(tmp_path)


def test_the_arguments_of_a_training_beside_an_adapter_are_none(
    adapter: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They were taken for weights of its configuration, and torch's advice to load them came in colours."""
    from transformers import TrainingArguments

    from adaptr.cli import run

    arguments = TrainingArguments(str(tmp_path / "run"), use_cpu=True, report_to=[])
    torch.save(arguments, adapter / "training_args.bin")
    for command in (["inspect"], ["convert", "-o", str(tmp_path / "out.safetensors")]):
        assert run([*command, str(adapter / "training_args.bin")]) == 3
        said = capfd.readouterr().err
        assert "training_args.bin` is what a training needs to go on; an adapter was wanted" in said
        assert "\x1b" not in said
    assert run(["inspect", str(adapter), "-v"]) == 0
    assert "training_args" not in "".join(capfd.readouterr())
    torch.save({"a": arguments}, adapter / "more.bin")
    with pytest.raises(e.UnsafePickle) as caught:
        adaptr.load(adapter / "more.bin")
    assert "TrainingArguments" in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("tensors", [{}, {"base_model.model.internal_xlora_classifier.layers.0.weight": torch.ones(2)}])
def test_pefts_own_x_lora_has_lost_its_gate(tensors: dict[str, torch.Tensor], adapter: Path) -> None:
    """PEFT 0.21 writes an empty file beside its experts."""
    save_file(tensors, adapter / WEIGHTS)
    said = {"peft_type": "XLORA", "adapters": {"0": "style", "1": "code"}}
    (adapter / "adapter_config.json").write_text(json.dumps(said))
    with pytest.raises(e.Unsupported, match=r"lose the gate.*`adaptr gate --help`.*they were `style`, `code`"):
        adaptr.load(adapter)


@pytest.mark.parametrize("adapters", [None, [], {}, "style"])
def test_an_x_lora_that_says_nothing_of_its_experts(adapters: Any, adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "XLORA", "adapters": adapters}))
    with pytest.raises(e.Unsupported, match="they were nowhere"):
        adaptr.load(adapter)


def test_a_value_head_inside_the_file_goes_with_the_adapter(tmp_path: Path) -> None:
    """It is named, written again and merged; a model without one is refused."""
    head = {"v_head.summary.weight": torch.ones(1, 32), "v_head.summary.bias": torch.ones(1)}
    base: Any = made(llama)
    base.save_pretrained(tmp_path / "base")
    adaptr.save(adaptr.create(base, "lora", ["attn.q"], r=3), tmp_path / "x.safetensors")
    adaptr.convert(tmp_path / "x.safetensors", tmp_path / "a", to="peft")
    save_file({**load_file(tmp_path / "a" / WEIGHTS), **head}, tmp_path / "a" / WEIGHTS)
    assert adaptr.inspect(tmp_path / "a").replaced == tuple(sorted(head))
    adaptr.convert(tmp_path / "a", tmp_path / "own.safetensors")
    adaptr.convert(tmp_path / "own.safetensors", tmp_path / "back", to="peft")
    assert adaptr.inspect(tmp_path / "back").replaced == tuple(sorted(head))
    with pytest.raises(e.TargetNotFound, match=r"v_head.*is a value head.*AutoModelForCausalLMWithValueHead"):
        adaptr.attach(base, adaptr.load(tmp_path / "a"))
    adaptr.merge(tmp_path / "base", [tmp_path / "a"], tmp_path / "merged")
    assert head.keys() <= load_file(tmp_path / "merged" / "model.safetensors").keys()
    assert torch.equal(base(IDS).logits, type(base).from_pretrained(tmp_path / "merged")(IDS).logits)


def test_a_model_with_layers_repeated_is_not_merged_by_peft_either(peft: Any, tmp_path: Path) -> None:
    """Of a base that is written with its layers repeated it is plain LoRA."""
    config = peft.LoraConfig(target_modules=["q_proj"], r=3, layer_replication=[(0, 2), (0, 2)])
    theirs = peft.get_peft_model(made(llama), config).eval()
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "a")
    with pytest.raises(e.Unsupported, match=r"share one weight.*null there: of that base it is plain LoRA"):
        adaptr.load(tmp_path / "a")
    said = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps({**said, "layer_replication": None}))
    bare: Any = made(llama)
    twice = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**bare.config.to_dict(), "num_hidden_layers": 4}))
    again = {k.replace("layers.", f"layers.{n}+"): v for k, v in bare.state_dict().items() for n in (0, 2)}
    named = {
        ".".join(str(sum(map(int, part.split("+")))) if "+" in part else part for part in key.split(".")): value
        for key, value in again.items()
    }
    twice.load_state_dict(named)
    with adaptr.attach(twice.eval(), adaptr.load(tmp_path / "a", base=twice)):
        assert float((outputs(twice) - outputs(theirs)).abs().max()) <= 1e-5
