from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaptr import api

KEYS = {"base", "architecture", "task", "dtype", "adapters", "answers"}
ASK = ("--prompt", "w1 w2 w3", "--max-new-tokens", "5", "--json")


def tokens(ran: object) -> list[int]:
    return ran.json["answers"][0]["tokens"]  # type: ignore[attr-defined]


def expected(base: Path, adapter: Path | None, weight: float = 1.0) -> list[int]:
    """What transformers says, the adapter attached by hand."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(base)
    handle = api.attach(model, api.load(adapter), weight) if adapter else None
    given = AutoTokenizer.from_pretrained(base)("w1 w2 w3", return_tensors="pt")
    with torch.no_grad():
        made = model.generate(**given, max_new_tokens=5, do_sample=False)
    if handle:
        handle.detach()
    return made[0][3:].tolist()


def test_generates_with_the_adapter_at_its_weight(adaptr: Callable, llama: Path, lora: Path) -> None:
    plain, full, half = (adaptr("apply", llama, *a, *ASK) for a in ((), (lora,), (f"{lora}=-0.5",)))
    assert set(full.json) == KEYS
    assert (full.json["task"], full.json["architecture"]) == ("generate", "LlamaForCausalLM")
    assert full.json["adapters"] == [{"source": str(lora), "method": "lora", "weight": 1.0}]
    assert tokens(plain) == expected(llama, None)
    assert tokens(full) == expected(llama, lora)
    assert tokens(half) == expected(llama, lora, -0.5)
    assert tokens(plain) != tokens(full)


def test_a_method_without_a_weight_runs_too(adaptr: Callable, llama: Path, houlsby: Path) -> None:
    assert tokens(adaptr("apply", llama, houlsby, *ASK)) == expected(llama, houlsby)


def test_drawing_depends_on_the_seed_alone(adaptr: Callable, llama: Path) -> None:
    hot = ("--temperature", "5", "--max-new-tokens", "12", "--prompt", "w1", "--json")
    first, again, other = (tokens(adaptr("apply", llama, *hot, "--seed", n)) for n in (1, 1, 2))
    assert first == again != other


def test_text_is_the_answer_and_nothing_else(adaptr: Callable, llama: Path, lora: Path, tmp_path: Path) -> None:
    data = adaptr("apply", llama, lora, *ASK).json["answers"][0]
    assert adaptr("apply", llama, lora, *ASK[:-1]).out == data["text"].strip() + "\n"
    assert adaptr("apply", llama, lora, *ASK[:-1], "-q").out == ""
    (tmp_path / "prompts").write_text("w1 w2 w3\n\nw4\n")
    ran = adaptr("apply", llama, lora, "--file", tmp_path / "prompts", *ASK[2:])
    assert [a["prompt"] for a in ran.json["answers"]] == ["w1 w2 w3", "w4"]
    assert ran.json["answers"][0] == data


def test_classifies(adaptr: Callable, bert: Path) -> None:
    ran = adaptr("apply", bert, "--prompt", "w1 w2", "--json")
    answer = ran.json["answers"][0]
    assert ran.json["task"] == "classify"
    assert sum(answer["scores"].values()) == pytest.approx(1)
    assert answer["text"] == max(answer["scores"], key=answer["scores"].get)
    assert answer["text"] in adaptr("apply", bert, "--prompt", "w1 w2").out


def test_a_classifier_that_the_adapter_brings_decides_the_labels(
    adaptr: Callable, llama: Path, lora: Path, tmp_path: Path
) -> None:
    adapter = api.load(lora)
    head = {"score.weight:=": torch.randn(5, 32)}
    api.save(adapter.replace(tensors={**adapter.tensors, **head}), tmp_path / "a.safetensors")
    ran = adaptr("apply", llama, tmp_path / "a.safetensors", "--prompt", "w1", "--json")
    assert (ran.json["task"], ran.json["architecture"]) == ("classify", "LlamaForSequenceClassification")
    assert len(ran.json["answers"][0]["scores"]) == 5
    called = adapter.replace(tensors={**adapter.tensors, **head}, training={"labels": [*"edcba"]})
    api.save(called, tmp_path / "b.safetensors")
    named = adaptr("apply", llama, tmp_path / "b.safetensors", "--prompt", "w1", "--json").json["answers"][0]
    assert named["scores"] == dict(zip("edcba", ran.json["answers"][0]["scores"].values(), strict=True))


@pytest.mark.parametrize(("task", "want"), [("CAUSAL_LM", 0), ("TOKEN_CLS", 5), ("SEQ_CLS", 3)])
def test_what_the_adapter_was_trained_for_counts(
    task: str, want: int, adaptr: Callable, llama: Path, lora: Path, tmp_path: Path
) -> None:
    api.convert(lora, tmp_path / "peft", "peft")
    config = tmp_path / "peft" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "task_type": task}))
    ran = adaptr("apply", llama, tmp_path / "peft", *ASK)
    assert ran.code == want  # as a classifier it has no head
    if want == 5:
        assert "TOKEN_CLS" in ran.json["error"]["message"]


def test_random_heads_are_refused(adaptr: Callable, llama: Path) -> None:
    ran = adaptr("apply", llama, "--task", "classify", "--prompt", "w1", "--json")
    assert ran.refused == (3, "CheckpointError")
    assert "`score.weight`" in ran.json["error"]["message"]


def test_wrong_bases(adaptr: Callable, llama: Path, bert: Path, lora: Path, tmp_path: Path) -> None:
    assert adaptr("apply", bert, lora, "--prompt", "w1", "--json").refused == (4, "TargetNotFound")
    assert adaptr("apply", tmp_path, lora, "--prompt", "w1", "--json").refused == (3, "CheckpointError")
    config = json.loads((llama / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaModel"]}))
    assert adaptr("apply", tmp_path, "--prompt", "w1", "--json").refused == (5, "Unsupported")


def test_an_adapter_given_twice_is_refused(adaptr: Callable, llama: Path, lora: Path) -> None:
    assert adaptr("apply", llama, lora, lora, *ASK).refused == (5, "AlreadyAttached")


def test_without_transformers_says_the_way_on(adaptr: Callable, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    ran = adaptr("apply", llama, *ASK)
    assert ran.refused == (8, "MissingExtra")
    assert "pip install 'adaptr[train]'" in ran.json["error"]["message"]


def test_usage(adaptr: Callable, llama: Path) -> None:
    assert adaptr("apply", llama, "--json").refused == (2, "UsageError")
    assert adaptr("apply", llama, *ASK, "--greedy", "--temperature", "1").refused == (2, "UsageError")


def test_a_base_without_a_tokenizer_is_named_before_it_is_loaded(
    adaptr: Callable, llama: Path, lora: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).symlink_to(llama / name)
    ran = adaptr("apply", bare, lora, *ASK[:-1])
    assert ran.code == 3
    assert "has no tokenizer (`tokenizer.json` or its kin)" in ran.err


def test_dropped_layers_have_no_adapter(adaptr: Callable, llama: Path, houlsby: Path, tmp_path: Path) -> None:
    """As the file that `drop` writes; the report says it."""
    adaptr("drop", houlsby, "--layers", "0", "--base", llama, "-o", tmp_path / "few.safetensors")
    ran = adaptr("apply", llama, houlsby, "--drop", "0", *ASK)
    assert tokens(ran) == expected(llama, tmp_path / "few.safetensors") != expected(llama, houlsby)
    assert ran.json["adapters"][0]["dropped"] == [0]
    assert adaptr("apply", llama, houlsby, "--drop", "7", *ASK).refused == (2, "BadConfig")
    assert adaptr("apply", llama, houlsby, "--drop", "x", *ASK).refused == (2, "UsageError")
