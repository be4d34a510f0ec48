"""Grown tables and new heads: the merged checkpoint's configuration describes it, so that it loads and is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as t

import checkpoints as c
import tied_models as models
import tiny
from adaptr import api
from adaptr.adapter import Adapter
from adaptr.errors import NotPossible, TargetMismatch

V, D = tiny.VOCAB, tiny.WIDTH
KINDS: dict[str, Any] = {
    **{kind: tiny.MAKERS[kind] for kind in ("llama", "gpt2", "opt", "bloom", "whisper", "bart")},
    "tied": models.llama,
    "masked": models.bert,
    "gemma3": models.gemma3,
    # every size of the model is that of its vocabulary
    "square": lambda: t.LlamaForCausalLM(t.LlamaConfig(**{**tiny.GROUPED, "vocab_size": D, "intermediate_size": D})),
}


def said(model: Any, kind: str) -> torch.Tensor:
    name = kind if kind in {"whisper", "bart"} else "llama"
    given = {k: v % D if k.endswith("ids") else v for k, v in models.inputs(name).items()}
    with torch.no_grad():
        found: torch.Tensor = model(**given).logits
    return found


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def replacing(before: Any, after: Any) -> Adapter:
    """What is not as before, whole, as PEFT saves it."""
    old = dict(before.named_parameters(remove_duplicate=False))
    new = {
        name: value.detach().clone()
        for name, value in after.named_parameters(remove_duplicate=False)
        if name not in old or old[name].shape != value.shape
    }
    return Adapter("lora", {"r": 2}, {}, {f"{name}:=": value for name, value in new.items()})


def grown(kind: str, folder: Path, size: int) -> tuple[Path, Any]:
    """A base, and the same model with a larger vocabulary."""
    torch.manual_seed(0)
    model = KINDS[kind]().eval()
    model.save_pretrained(folder)
    model.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(0.1)
    return folder, model


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_grown_vocabulary_loads_and_says_the_same(tmp_path: Path, kind: str) -> None:
    """Found in 0.1.0: `vocab_size` stayed, and `from_pretrained` refused the folder."""
    base, model = grown(kind, tmp_path / "base", V + 4)
    adapter = replacing(c.model_of(base), model)
    report = api.merge(base, [adapter], tmp_path / "out")
    merged = c.model_of(tmp_path / "out")
    assert merged.config.get_text_config().vocab_size == V + 4
    assert torch.allclose(said(merged, kind), said(model, kind), atol=1e-5)
    assert any(f"vocab_size` {V + 4}" in note for note in report.notes)
    assert api.verify(tmp_path / "out", base, [adapter]).exact
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


@pytest.mark.parametrize("tied", [False, True])
def test_so_does_one_that_was_extracted(tmp_path: Path, tied: bool) -> None:
    base, model = grown("tied" if tied else "llama", tmp_path / "base", V + 4)
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight.add_(0.1)
    model.save_pretrained(tmp_path / "tuned")
    api.extract(base, tmp_path / "tuned", tmp_path / "x.safetensors", rank=2)
    api.merge(base, [tmp_path / "x.safetensors"], tmp_path / "out")
    merged = c.model_of(tmp_path / "out")
    assert torch.allclose(said(merged, "llama"), said(model, "llama"), atol=1e-4)


def test_a_table_of_positions_grows_too(tmp_path: Path) -> None:
    base = c.saved("bert", tmp_path / "base")
    name = "bert.embeddings.position_embeddings.weight"
    adapter = Adapter("lora", {"r": 2}, {}, {f"{name}:=": torch.randn(80, D)})
    api.merge(base, [adapter], tmp_path / "out")
    assert config_of(tmp_path / "out")["max_position_embeddings"] == 80
    c.model_of(tmp_path / "out")


def test_what_no_configuration_describes_is_refused(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    adapter = Adapter("lora", {"r": 2}, {}, {"model.embed_tokens.weight:=": torch.randn(V + 4, D)})
    with pytest.raises(TargetMismatch, match="grow together"):
        api.merge(base, [adapter], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_transformers_does_not_know_is_said(tmp_path: Path) -> None:
    base = c.bare(tmp_path / "base", {"embed.weight": torch.randn(V, D)})
    adapter = Adapter("lora", {"r": 2}, {}, {"embed.weight:=": torch.randn(V + 4, D)})
    assert "unknown" in api.merge(base, [adapter], tmp_path / "out").notes[0]


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_more_labels(tmp_path: Path, kind: str) -> None:
    base = c.saved(kind, tmp_path / "base")
    config = t.AutoConfig.from_pretrained(base, num_labels=5)
    torch.manual_seed(1)
    model = t.AutoModelForSequenceClassification.from_config(config).eval()
    before = c.model_of(base)
    merged_too = {n: p for n, p in before.named_parameters() if model.get_parameter(n).shape == p.shape}
    model.load_state_dict(merged_too, strict=False)
    api.merge(base, [replacing(before, model)], tmp_path / "out")
    merged = c.model_of(tmp_path / "out")
    assert merged.config.num_labels == 5
    assert merged.config.label2id == {f"LABEL_{i}": i for i in range(5)}
    assert torch.allclose(said(merged, kind), said(model, kind), atol=1e-5)
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


@pytest.mark.parametrize("labels", [("neg", "pos"), ("a", "b", "c")])
def test_the_names_that_a_head_was_trained_on(tmp_path: Path, labels: tuple[str, ...]) -> None:
    base = c.saved("bert", tmp_path / "base")
    width = c.model_of(base).config.hidden_size
    head = {"classifier.weight:=": torch.randn(len(labels), width), "classifier.bias:=": torch.randn(len(labels))}
    api.merge(base, [Adapter("lora", {"r": 2}, {}, head, training={"labels": list(labels)})], tmp_path / "out")
    merged = c.model_of(tmp_path / "out")
    assert merged.config.id2label == dict(enumerate(labels))
    assert merged.config.label2id == {name: i for i, name in enumerate(labels)}
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


@pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own
@pytest.mark.parametrize(
    ("task", "auto"), [("SEQ_CLS", "SequenceClassification"), ("TOKEN_CLS", "TokenClassification")]
)
def test_a_head_that_the_class_has_not(tmp_path: Path, task: str, auto: str) -> None:
    """An adapter of a classifier, trained by PEFT on a base that generates."""
    base = c.saved("llama", tmp_path / "base")
    loaded = getattr(t, f"AutoModelFor{auto}").from_pretrained(base, num_labels=3)
    model = peft.get_peft_model(loaded, peft.LoraConfig(r=2, target_modules=["q_proj"], task_type=task))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    model.eval().save_pretrained(tmp_path / "adapter")
    report = api.merge(base, [tmp_path / "adapter"], tmp_path / "out")
    merged = getattr(t, f"AutoModelFor{auto}").from_pretrained(tmp_path / "out").eval()
    assert merged.config.num_labels == 3
    assert merged.config.architectures == [f"LlamaFor{auto}"]
    assert torch.allclose(said(merged, "llama"), said(model, "llama"), atol=1e-5)
    assert any("3 labels" in note for note in report.notes)
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


# ---------------------------------------------------------------- tokenizers


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = c.saved("llama", tmp_path / "base")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "vocab.json").write_text("{}")
    return folder


def lora(tmp_path: Path, name: str, seed: int = 0, **files: str) -> Path:
    api.save(c.lora_at_q(seed), tmp_path / f"{name}.safetensors")
    api.convert(tmp_path / f"{name}.safetensors", tmp_path / name, to="peft")
    for key, text in files.items():
        (tmp_path / name / key.replace("__", ".")).write_text(text)
    return tmp_path / name


def test_the_adapter_s_tokenizer_goes_along(base: Path, tmp_path: Path) -> None:
    adapter = lora(
        tmp_path, "a", tokenizer__json='{"a": 1}', chat_template__jinja="x", vocab__json="{}", notes__txt="n"
    )
    report = api.merge(base, [adapter], tmp_path / "out")
    assert (tmp_path / "out/tokenizer.json").read_text() == '{"a": 1}'
    assert (tmp_path / "out/chat_template.jinja").read_text() == "x"
    assert not (tmp_path / "out/notes.txt").exists()
    assert [note for note in report.notes if "chat_template.jinja, tokenizer.json" in note]
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


def test_the_same_tokenizer_is_not_mentioned(base: Path, tmp_path: Path) -> None:
    assert api.merge(base, [lora(tmp_path, "a", tokenizer__json="{}")], tmp_path / "out").notes == []


def test_of_two_tokenizers_none_is_guessed(base: Path, tmp_path: Path) -> None:
    pair = [lora(tmp_path, name, number, tokenizer__json=f'"{name}"') for number, name in enumerate("ab")]
    report = api.merge(base, pair, tmp_path / "out")
    assert (tmp_path / "out/tokenizer.json").read_text() == "{}"
    assert "differ" in report.notes[0]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_layers_that_were_drawn_in_training_and_never_saved_are_named(tmp_path: Path) -> None:
    """PEFT saves the classifier alone; the pooler of a model for masked words is new in each process."""
    t.BertForMaskedLM(t.BertConfig(**tiny.COMMON)).save_pretrained(tmp_path / "base")
    model = t.BertForSequenceClassification.from_pretrained(tmp_path / "base")
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
    theirs.save_pretrained(tmp_path / "a")
    with pytest.raises(NotPossible, match=r"`bert\.pooler\.dense\.\w+`: neither the base nor the adapter"):
        api.merge(tmp_path / "base", [tmp_path / "a"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
