"""Losses and answers, against what transformers says of the same records."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import adaptr
from adaptr.errors import BadRecord, DataError, MachineError, NonFinite, UsageError
from adaptr.evaluating import answers, measure, setting
from adaptr.evaluating.setting import Options, Setting
from adaptr.testing import shaken
from evaluating.conftest import lines, text


def here(base: Path, data: Path, **options: object) -> Setting:
    return setting.opened(base, data, options=Options(**options))  # type: ignore[arg-type]


def test_a_loss_is_the_mean_over_all_tokens_and_not_of_batches(llama: Path, pairs: Path) -> None:
    found = here(llama, pairs)
    encoded = list(found.task.encode(found.data.records, found.tools, found.limits))
    total = count = 0.0
    for one in encoded:
        ids, labels = (torch.tensor([one.example[name]]) for name in ("input_ids", "labels"))
        with torch.no_grad():
            mean = float(found.model(input_ids=ids, labels=labels).loss)
        tokens = int((labels[:, 1:] != -100).sum())
        total, count = total + mean * tokens, count + tokens
    got = found.measure()
    assert got.loss == pytest.approx(total / count, abs=1e-6)
    assert got.values()["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)
    lengths = {int(n) for n in got.losses[:, 1]}
    assert len(lengths) > 3, "records of different lengths, or the test says nothing"


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_neither_batch_size_nor_padding_changes_anything(request: pytest.FixtureRequest, kind: str) -> None:
    data = request.getfixturevalue("pairs" if kind == "llama" else "reviews")
    one, eight = (here(request.getfixturevalue(kind), data, batch=size).measure() for size in (1, 8))
    np.testing.assert_allclose(one.losses, eight.losses, atol=1e-5)
    assert one.loss == pytest.approx(eight.loss, abs=1e-6)
    assert one.values() == pytest.approx(eight.values(), abs=1e-4)


def test_the_loss_is_that_of_trainers_evaluate(bert: Path, reviews: Path, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    found = here(bert, reviews, batch=5)
    rows = [one.example for one in found.task.encode(found.data.records, found.tools, found.limits)]
    arguments = TrainingArguments(str(tmp_path), per_device_eval_batch_size=5, report_to="none", use_cpu=True)
    trainer = Trainer(found.model, arguments, data_collator=lambda some: found.task.collate(some, found.tools))
    assert found.measure().loss == pytest.approx(trainer.evaluate(rows)["eval_loss"], abs=1e-6)


def test_classes_are_counted_by_name_whatever_order_the_data_has(bert: Path, reviews: Path) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    found = here(bert, reviews)
    assert found.limits.labels == ("bad", "good"), "the base's order"
    said = []
    for record in found.data.records:
        with torch.no_grad():
            logits = found.model(**found.tools.tokenizer(record.values["text"], return_tensors="pt")).logits
        said.append(("bad", "good")[int(logits.argmax())])
    wanted = [record.values["label"] for record in found.data.records]
    values = found.measure().values()
    assert values["accuracy"] == pytest.approx(accuracy_score(wanted, said))
    assert values["f1"] == pytest.approx(f1_score(wanted, said, average="macro"))


def test_an_adapter_on_the_model_is_measured_with_it(llama: Path, pairs: Path) -> None:
    found = here(llama, pairs)
    before = found.measure().loss
    with adaptr.attach(found.model, shaken(adaptr.create(found.model, "lora"), 0, 0.5)):
        assert found.measure().loss != before
    assert found.measure().loss == before


def test_a_prompt_of_virtual_tokens_changes_no_count(llama: Path, pairs: Path) -> None:
    found = here(llama, pairs)
    with adaptr.attach(found.model, shaken(adaptr.create(found.model, "prompt"), 0, 0.5)):
        one = found.measure()
        eight = measure(found.model, found.task, found.data.records, found.tools, found.limits, batch=1)
    assert one.loss == pytest.approx(eight.loss, abs=1e-6)
    assert one.losses[:, 1].tolist() == found.measure().losses[:, 1].tolist()


def test_texts_are_answered_and_scored(llama: Path, pairs: Path) -> None:
    found = here(llama, pairs, metrics=("exact_match", "rougeL"))
    records = found.data.records[:3]
    values = found.measure(records).values()
    said = answers(found.model, found.task, records, found.tools, found.limits)
    assert [one.wanted for one in said] == [r.values["completion"] for r in records]
    assert values["exact_match"] == sum(one.said.strip() == one.wanted for one in said) / 3
    assert 0 <= values["rougeL"] <= 1


def test_what_is_cut_is_counted(llama: Path, tmp_path: Path) -> None:
    data = lines(tmp_path / "long.jsonl", [{"prompt": "w1 ", "completion": " ".join(["w2"] * n)} for n in (3, 9, 12)])
    found = here(llama, data, length=8).measure()
    assert (found.cut, found.tokens) == (2, 3 + 6), "the end of an answer is a token too"


def test_a_record_longer_than_the_model_is_cut_there_and_said(llama: Path, tmp_path: Path) -> None:
    data = lines(tmp_path / "long.jsonl", [{"prompt": "w1 ", "completion": " ".join(["w2"] * 100)}])
    found = here(llama, data, length=90)
    assert found.limits.length == 64
    assert "the model takes 64 tokens at most, not 90" in found.notes
    assert found.measure().cut == 1


def test_the_model_is_left_as_it_was(llama: Path, pairs: Path) -> None:
    found = here(llama, pairs)
    found.model.train()
    found.model.model.norm.eval()
    found.measure()
    assert found.model.training
    assert not found.model.model.norm.training


def test_a_loss_that_is_no_number_names_the_record(llama: Path, pairs: Path) -> None:
    found = here(llama, pairs)
    found.model.lm_head.weight.data[5] = float("nan")
    with pytest.raises(NonFinite, match=r"pairs.jsonl:\d+"):
        found.measure()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"metrics": ("acuracy",)}, UsageError, "did you mean `accuracy`"),
        ({"task": "nonsense"}, UsageError, "nonsense"),
        ({"length": 1}, UsageError, "2 or more"),
        ({"batch": 0}, UsageError, "at least 1"),
        ({"dtype": "fp12"}, UsageError, "fp12"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    llama: Path, pairs: Path, options: dict, error: type, said: str
) -> None:
    with pytest.raises(error, match=said):
        here(llama, pairs, **options)


@pytest.mark.parametrize(("device", "error"), [("cuda", MachineError), ("gpu", UsageError)])
def test_a_device_that_is_not_there_is_refused(llama: Path, pairs: Path, device: str, error: type[Exception]) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(error, match=device):
        adaptr.evaluate(llama, (), pairs, device=device)


@pytest.mark.parametrize("metric", ["accuracy", "pearson", "entity_f1"])
def test_a_metric_of_another_sort_is_refused(llama: Path, pairs: Path, metric: str) -> None:
    with pytest.raises(UsageError, match="is a metric of"):
        here(llama, pairs, metrics=(metric,)).measure()


def test_data_without_a_record_is_refused(llama: Path, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError):
        here(llama, tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="no record"):
        here(llama, pairs).measure([])


def test_a_record_of_another_task_is_refused_with_its_place(llama: Path, tmp_path: Path) -> None:
    data = lines(tmp_path / "mixed.jsonl", [{"prompt": "w1 ", "completion": "w2"}, {"prompt": "w1", "completion": ""}])
    with pytest.raises(BadRecord, match=r"mixed.jsonl:2"):
        here(llama, data).measure()


def test_classes_that_the_base_does_not_tell_are_refused(bert: Path, tmp_path: Path) -> None:
    data = lines(tmp_path / "other.jsonl", [{"text": text(i), "label": ["yes", "no"][i % 2]} for i in range(4)])
    with pytest.raises(DataError, match="other classes"):
        here(bert, data)


def test_answers_of_some_records_only(bert: Path, reviews: Path) -> None:
    found = here(bert, reviews)
    some = replace(found, data=replace(found.data, records=found.data.records[:4]))
    assert some.measure().records == 4
