"""Ties of every kind of model: by configuration, by value, against the configuration, nested, and of several uses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t

import checkpoints as c
import tied_models as m
import tiny
from adaptr import api
from adaptr.adapter import Adapter, Target
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.names import Names
from adaptr.errors import NotPossible, TiedWeights, Unsupported
from adaptr.models.ties import Ties

V, D = tiny.VOCAB, tiny.WIDTH
#: name: (model, its head, its table, what its forward wants)
MODELS: dict[str, tuple[Callable[[], Any], str, str, str]] = {
    "llama": (m.llama, "lm_head", "model.embed_tokens", "llama"),
    "whisper": (tiny.MAKERS["whisper"], "proj_out", "model.decoder.embed_tokens", "whisper"),
    "bert": (
        m.bert, "cls.predictions.decoder", "bert.embeddings.word_embeddings", "llama"
    ),
    "neox": (
        lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**tiny.COMMON, tie_word_embeddings=True)),
        "lm_head", "gpt_neox.embed_in", "llama",
    ),
    "opt": (tiny.MAKERS["opt"], "lm_head", "model.decoder.embed_tokens", "llama"),
    "bart": (tiny.MAKERS["bart"], "lm_head", "model.shared", "bart"),
    "gemma3": (m.gemma3, "lm_head", "model.language_model.embed_tokens", "llama"),
    "llava": (m.llava, "lm_head", "model.language_model.embed_tokens", "llama"),
}  # fmt: skip


def said(model: Any, kind: str) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**m.inputs(kind)).logits
    return found


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def base(name: str, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    MODELS[name][0]().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def on_head(name: str) -> Adapter:
    return c.lora_at(Target(MODELS[name][1], "linear", (V, D)))


def on_table(name: str) -> Adapter:
    return c.lora_at(Target(MODELS[name][2], "embedding", (D, V)), seed=1)


def flags(config: Any) -> Iterator[bool]:
    for key, value in config.items():
        if key == "tie_word_embeddings":
            yield value
        elif isinstance(value, dict):
            yield from flags(value)


def test_an_untied_head_is_what_attached_is(name: str, base: Path, tmp_path: Path) -> None:
    """Found in 0.1.0: only `lm_head` and `embed_out` were heads, and the flag of a nested configuration stayed."""
    kind = MODELS[name][3]
    with pytest.raises(TiedWeights, match='tied="both"'):
        api.merge(base, [on_head(name)], tmp_path / "out")
    api.merge(base, [on_head(name)], tmp_path / "out", tied="untie")
    model = c.model_of(base)
    api.attach(model, on_head(name))
    merged = c.model_of(tmp_path / "out")
    assert torch.allclose(said(model, kind), said(merged, kind), atol=1e-4)
    assert set(flags(json.loads((tmp_path / "out/config.json").read_text()))) == {False}
    assert api.verify(tmp_path / "out", base, [on_head(name)], tied="untie").exact
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


@pytest.mark.parametrize("way", ["both", "untie"])
def test_a_head_with_its_bias(tmp_path: Path, way: Any) -> None:
    """BERT's bias has two names, and transformers 4 reads whichever comes last."""
    torch.manual_seed(0)
    m.bert().save_pretrained(tmp_path / "base")
    head = "cls.predictions.decoder"
    whole = {f"{head}.weight:=": torch.randn(V, D), f"{head}.bias:=": torch.randn(V)}
    api.merge(tmp_path / "base", [Adapter("lora", {"r": 2}, {}, whole)], tmp_path / "out", tied=way)
    tensors = c.tensors_of(tmp_path / "out")
    assert all(torch.equal(t, whole[f"{head}.bias:="]) for name, t in tensors.items() if name.endswith("s.bias"))
    merged = c.model_of(tmp_path / "out")
    assert torch.equal(merged.get_submodule(head).bias, whole[f"{head}.bias:="])
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(tmp_path / "base")
    shift = c.lora_at(Target(head, "linear", (V, D)), bias=True)
    api.merge(tmp_path / "base", [shift], tmp_path / "shift", tied=way)
    assert torch.allclose(c.model_of(tmp_path / "shift").get_submodule(head).bias, shift.tensors[f"{head}:b"])


def test_both_changes_the_one_tensor(name: str, base: Path, tmp_path: Path) -> None:
    report = api.merge(base, [on_head(name)], tmp_path / "out", tied="both")
    assert report.added == []
    merged = c.model_of(tmp_path / "out")
    head, table = (merged.get_submodule(path).weight for path in MODELS[name][1:3])
    assert head is table
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


def test_a_tied_head_by_its_older_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    m.llava().save_pretrained(tmp_path / "base")
    older = c.lora_at(Target("language_model.lm_head", "linear", (V, D)))
    for number, adapter in enumerate((older, on_head("llava"))):
        api.merge(tmp_path / "base", [adapter], tmp_path / f"{number}", tied="untie")
    assert torch.equal(*(c.model_of(tmp_path / name).lm_head.weight for name in "01"))


def stored_head(folder: Path, head: torch.Tensor | None = None) -> Path:
    """A tied Llama whose head is stored too: as the table, or as `head`."""
    torch.manual_seed(0)
    m.llama().save_pretrained(folder)
    tensors = c.tensors_of(folder)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] if head is None else head
    return c.bare(folder, {name: tensor.clone() for name, tensor in tensors.items()})


HEADS = pytest.mark.parametrize("head", [None, torch.randn(V, D)], ids=["equal", "another"])


@HEADS
@pytest.mark.parametrize("places", ["head", "table", "head table"])
def test_a_stored_head_keeps_its_value_and_delta(tmp_path: Path, head: Any, places: str) -> None:
    """Found in 0.1.0: `untie` wrote the old table over a stored head; readers dropped a delta of the head."""
    base = stored_head(tmp_path / "base", head)
    stack = [{"head": on_head, "table": on_table}[place]("llama") for place in places.split()]
    with pytest.raises(TiedWeights, match="stored apart"):
        api.merge(base, stack, tmp_path / "out")
    report = api.merge(base, stack, tmp_path / "out", tied="untie")
    assert report.added == []
    model = t.LlamaForCausalLM.from_pretrained(base)
    for adapter in stack:
        api.attach(model, adapter)
    merged = c.model_of(tmp_path / "out")
    assert torch.allclose(c.logits(model, "llama"), c.logits(merged, "llama"), atol=1e-5)
    assert not merged.config.tie_word_embeddings
    assert api.verify(tmp_path / "out", base, stack, tied="untie").exact
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


@HEADS
def test_both_changes_both_that_are_stored(tmp_path: Path, head: Any) -> None:
    """Found in 0.1.0: the table alone changed."""
    base, adapter = stored_head(tmp_path / "base", head), on_table("llama")
    api.merge(base, [adapter], tmp_path / "out", tied="both")
    before, after = c.tensors_of(base), c.tensors_of(tmp_path / "out")
    D = c.delta(adapter, "model.embed_tokens").t()
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.allclose(after[key], before[key] + D, atol=1e-6)
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is (head is None)
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


def test_a_head_that_differs_is_said_after_any_merge(tmp_path: Path) -> None:
    """transformers 4 and vLLM would drop the stored head, transformers 5 use it."""
    base = stored_head(tmp_path / "base", torch.randn(V, D))
    report = api.merge(base, [c.lora_at_q()], tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is False
    assert any("differ" in note for note in report.notes)
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)
    api.merge(stored_head(tmp_path / "equal"), [c.lora_at_q()], tmp_path / "same")
    assert json.loads((tmp_path / "same/config.json").read_text())["tie_word_embeddings"] is True


def replacing(**values: torch.Tensor) -> Adapter:
    names = {"head": "lm_head.weight", "table": "model.embed_tokens.weight"}
    return Adapter("lora", {"r": 2}, {}, {f"{names[key]}:=": value for key, value in values.items()})


def test_one_value_for_all_uses_needs_no_word(tmp_path: Path) -> None:
    """PEFT saves table and head of a tied model both, and they are equal."""
    torch.manual_seed(0)
    m.llama().save_pretrained(tmp_path / "base")
    value = torch.randn(V, D)
    adapter = replacing(head=value, table=value.clone())
    for way in (None, "both"):
        report = api.merge(tmp_path / "base", [adapter], tmp_path / "out", tied=way, force=True)
        assert report.added == []
        assert torch.equal(c.model_of(tmp_path / "out").lm_head.weight, value)
    two = replacing(head=value, table=value + 1)
    with pytest.raises(TiedWeights):
        api.merge(tmp_path / "base", [two], tmp_path / "no")
    with pytest.raises(NotPossible, match="are one tensor"):
        api.merge(tmp_path / "base", [two], tmp_path / "no", tied="both")


def test_one_delta_of_all_uses_changes_both_once(tmp_path: Path) -> None:
    """What extract makes of a tied model: the delta of the table, and of the head the same, turned."""
    torch.manual_seed(0)
    model = m.llama().eval()
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        model.lm_head.weight.add_(0.1 * torch.randn(V, 2) @ torch.randn(2, D))
    model.save_pretrained(tmp_path / "tuned")
    api.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "x.safetensors", rank=2)
    report = api.merge(tmp_path / "base", [tmp_path / "x.safetensors"], tmp_path / "out", tied="both")
    assert report.added == []
    merged = c.model_of(tmp_path / "out")
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert torch.allclose(c.logits(merged, "llama"), c.logits(model, "llama"), atol=1e-4)
    assert api.verify(tmp_path / "out", tmp_path / "base", [tmp_path / "x.safetensors"]).exact
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(tmp_path / "base")


def test_untied_sizes_must_agree(tmp_path: Path) -> None:
    torch.manual_seed(0)
    m.llama().save_pretrained(tmp_path / "base")
    with pytest.raises(NotPossible, match="different sizes"):
        api.merge(tmp_path / "base", [replacing(table=torch.randn(V + 4, D))], tmp_path / "out", tied="untie")


def test_what_is_stored_apart_and_said_to_be_is_not_tied(tmp_path: Path) -> None:
    """T5 1.1: the class ties whatever it is told; the stored head is its own, the tables of the stacks are not."""
    torch.manual_seed(0)
    config = t.T5Config(**tiny.T5, decoder_start_token_id=0)
    t.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "base")
    tensors = {**c.tensors_of(tmp_path / "base"), "lm_head.weight": torch.randn(V, D)}
    said = {**json.loads((tmp_path / "base/config.json").read_text()), "tie_word_embeddings": False}
    c.bare(tmp_path / "base", tensors, said)
    adapter = c.lora_at(Target("lm_head", "linear", (V, D)))
    api.merge(tmp_path / "base", [adapter], tmp_path / "out")
    with pytest.raises(TiedWeights, match=r"encoder\.embed_tokens"):
        api.merge(tmp_path / "base", [c.lora_at(Target("shared", "embedding", (D, V)))], tmp_path / "no")


def test_a_model_that_nobody_knows_is_not_guessed_at(tmp_path: Path) -> None:
    tensors = {"embed.weight": torch.randn(V, D), "body.weight": torch.randn(D, D)}
    config = {"architectures": ["OursForCausalLM"], "model_type": "ours", "tie_word_embeddings": True, "vocab_size": V}
    base = c.bare(tmp_path / "base", tensors, config)
    table = c.lora_at(Target("embed", "embedding", (D, V)))
    with pytest.raises(TiedWeights, match="does not know"):
        api.merge(base, [table], tmp_path / "out")
    with pytest.raises((Unsupported, TiedWeights)):
        api.merge(base, [table], tmp_path / "out", tied="untie")
    api.merge(base, [table], tmp_path / "out", tied="both")
    api.merge(base, [c.lora_at(Target("body", "linear", (D, D)))], tmp_path / "body")


def test_layers_ask_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking transformers takes seconds, and a layer of a stack is tied to nothing."""
    base = c.saved("llama", tmp_path / "base")
    ties = Ties(Names(open_checkpoint(base)))
    monkeypatch.setattr("adaptr.models.tying.groups", lambda config: pytest.fail("transformers was asked"))
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.bias"):
        assert ties.use(name) == ""
