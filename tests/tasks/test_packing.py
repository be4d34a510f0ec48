"""Records that share a row see only themselves: through TRL's packing, and refused where the model can't."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
import transformers as t

import speaking
from adaptr import tasks
from adaptr.data import Place, Record
from adaptr.errors import Unsupported
from adaptr.tasks import Limits
from adaptr.tasks.isolation import require_isolation

LM = tasks.by_name("lm")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_record_has_the_loss_that_it_has_alone(tmp_path: Path, attention: str) -> None:
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
    base = speaking.llama(tmp_path)
    model, have = LM.model(base, (), attn_implementation=attention).eval(), tasks.tools(base)
    asked = [("a\n", "the cat"), ("What?\n", "Paris."), ("b\n", "0 1 2 3 4")]
    records = [Record({"prompt": p, "completion": c}, Place("a", 1)) for p, c in asked]
    examples = [one.example for one in LM.encode(records, have, Limits(64))]
    datasets.disable_progress_bars()
    packed = trl.pack_dataset(datasets.Dataset.from_list(list(map(dict, examples))), 64, "bfd")
    assert len(packed) == 1
    row = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([packed[0]])
    given = {name: row[name] for name in ("input_ids", "labels", "position_ids")}
    together = model(**given, use_cache=False)  # with a cache, positions are not looked at
    alone = [model(**LM.collate([example], have)).loss for example in examples]
    learned = [sum(label != -100 for label in example["labels"]) for example in examples]  # type: ignore[attr-defined]
    mean = sum(loss * count for loss, count in zip(alone, learned, strict=True)) / sum(learned)
    assert together.loss.item() == pytest.approx(mean.item(), abs=1e-5)


def test_a_model_that_keeps_them_apart() -> None:
    model = t.LlamaForCausalLM(t.LlamaConfig(**speaking.SIZES)).train()
    require_isolation(model)
    assert model.training


def test_a_model_that_sees_across() -> None:
    model = t.LlamaForCausalLM(t.LlamaConfig(**speaking.SIZES))
    forward = copy.copy(model.forward)

    def seeing(**given: torch.Tensor) -> object:
        given["attention_mask"] = torch.ones_like(given["input_ids"])
        return forward(**given)

    model.forward = seeing  # type: ignore[assignment]
    with pytest.raises(Unsupported, match=r"does not keep records in one row apart.*leave `pack` out"):
        require_isolation(model)


def test_a_model_without_positions() -> None:
    config = t.BloomConfig(vocab_size=320, hidden_size=32, n_layer=1, n_head=4)
    with pytest.raises(Unsupported):
        require_isolation(t.BloomForCausalLM(config))
