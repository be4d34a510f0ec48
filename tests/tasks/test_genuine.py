"""Genuine data with the tokenizer and the chat template of a genuine model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import real_models
import transformers as t

from adaptr import tasks
from adaptr.data import Place, Record, read
from adaptr.tasks import Limits, Tools

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real-data"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the genuine data sets are not beside the repository")
smollm2 = pytest.mark.skipif(bool(real_models.missing(real_models.SMOLLM2)), reason="SmolLM2 is not installed")
minilm = pytest.mark.skipif(bool(real_models.missing(real_models.MINILM)), reason="MiniLM is not installed")
CHAT = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4."},
    {"role": "user", "content": "And 3?"},
    {"role": "assistant", "content": "5, I think."},
]


def learned(tokenizer: Any, example: Any) -> str:
    return str(tokenizer.decode([label for label in example["labels"] if label != -100]))


@pytest.fixture(scope="module")
def smol() -> t.PreTrainedTokenizerBase:
    found: t.PreTrainedTokenizerBase = t.AutoTokenizer.from_pretrained(real_models.smollm2())
    return found


@smollm2
def test_instructions_with_smollm2(smol: t.PreTrainedTokenizerBase) -> None:
    data = read(REAL / "alpaca-tiny/alpaca_tiny.json")
    for one in tasks.by_name("lm").encode(data.records, Tools(smol), Limits(2048)):
        assert learned(smol, one.example) == f"{one.record.values['completion']}<|im_end|>"


@smollm2
def test_a_conversation_with_smollm2(smol: t.PreTrainedTokenizerBase) -> None:
    (one,) = tasks.by_name("lm").encode([Record({"messages": CHAT}, Place("a", 1))], Tools(smol), Limits(2048))
    assert learned(smol, one.example) == "4.<|im_end|>\n5, I think.<|im_end|>\n"
    assert one.example["input_ids"] == smol.apply_chat_template(CHAT)["input_ids"]


@smollm2
@pytest.mark.parametrize("name", ["qwen3_training", "qwen2_5_training", "llama3_training", "gemma_training"])
def test_templates_with_marks_are_masked_as_trl_masks_them(smol: t.PreTrainedTokenizerBase, name: str) -> None:
    """TRL's training templates, and the masks that transformers makes of them."""
    trl = pytest.importorskip("trl")
    file = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
    if not file.is_file():
        pytest.skip(f"this TRL has no {name}")
    marked = t.AutoTokenizer.from_pretrained(real_models.smollm2())
    marked.chat_template = file.read_text()
    theirs = marked.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    (one,) = tasks.by_name("lm").encode([Record({"messages": CHAT}, Place("a", 1))], Tools(marked), Limits(2048))
    labels: list[int] = one.example["labels"]  # type: ignore[assignment]
    assert one.example["input_ids"] == theirs["input_ids"]
    assert [int(label != -100) for label in labels] == theirs["assistant_masks"]


@minilm
def test_sentences_with_minilm() -> None:
    data, base = read(REAL / "sst2/test.tsv"), real_models.minilm()
    task = tasks.find("auto", base, data)
    limits, have = Limits(128, task.labels(data.records, base)), tasks.tools(base)
    assert (task.name, limits.labels) == ("classify", ("0", "1"))
    assert have.places <= 512
    encoded = list(task.encode(data.records, have, limits))
    assert len(encoded) == len(data.records) == 872
    assert [limits.labels[one.example["labels"]] for one in encoded] == [r.values["label"] for r in data.records]  # type: ignore[index]
    batch = task.collate([one.example for one in encoded[:4]], have)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["token_type_ids"].shape
