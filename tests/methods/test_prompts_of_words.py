"""Prompts that begin as words: of a text, some of which stay; of examples; and a cache that is a text's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import adaptr
import tiny
from adaptr.errors import BadConfig, ConfigConflict, Unsupported
from adaptr.testing import assert_close, bits_equal
from peft_models import IDS, llama, made


def stepped(session: Any, model: Any, steps: int = 3, rate: float = 0.1) -> adaptr.Adapter:
    """A few steps of AdamW, whose decay moves what has no gradient."""
    session.prepare()
    optimiser = torch.optim.AdamW(session.parameters(), lr=rate, weight_decay=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        session.objective(lambda: (model(input_ids=IDS, labels=IDS).loss, None)).backward()
        optimiser.step()
        session.after_step()
    return session.adapted()


def test_a_prompt_begins_as_its_ids_cut_or_said_again_and_some_stay() -> None:
    model = tiny.model("llama")
    table = model.get_input_embeddings().weight
    assert torch.equal(adaptr.create(model, "prompt", ids=[5, 9]).tensors[":P"], table[[5, 9]])
    assert torch.equal(adaptr.create(model, "prompt", ids=[5, 9, 4], tokens=2).tensors[":P"], table[[5, 9]])
    adapter = adaptr.create(model, "prompt", ids=[5, 9], tokens=5, frozen=[0, 4])
    assert torch.equal(adapter.tensors[":P"], table[[5, 9, 5, 9, 5]])
    with adaptr.train(model, adapter) as session:
        P = stepped(session, model).tensors[":P"]
    assert torch.equal(P[[0, 4]], table[[5, 5]])
    assert bool((P[1:4] != table[[9, 5, 9]]).any(1).all())


def test_a_text_is_read_by_the_bases_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"is": 3, "it": 4, "good": 5, "<unk>": 0}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(tmp_path)
    tiny.model("llama").save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    adapter = adaptr.create(model, "prompt", text="is it good")
    assert (adapter.config["ids"], adapter.config["tokens"], adapter.config["init"]) == ([3, 4, 5], 3, "text")
    assert torch.equal(adapter.tensors[":P"], model.get_input_embeddings().weight[[3, 4, 5]])
    with pytest.raises(BadConfig, match="a text of no tokens"):
        adaptr.create(model, "prompt", text=" ")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"text": "a b"}, "does not say where it was loaded from"),
        ({"ids": [5, 1000]}, "1000"),
        ({"ids": [5], "frozen": [1]}, "rows from 0 to 0"),
    ],
)
def test_what_is_no_text_of_the_base_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        adaptr.create(tiny.model("llama"), "prompt", **config)


# ---------------------------------------------------------------- CPT


def test_examples_learn_within_their_balls_and_their_outputs_stay() -> None:
    model = tiny.model("llama")
    adapter = adaptr.create(model, "cpt", ids=[5, 9, 4, 7], types=[1, 2, 3, 4], eps=0.5, eps_form=0.25)
    with torch.no_grad():
        wanted = bare(model, [5, 9, 4, 7])
        with adaptr.attach(model, adapter):
            assert_close(model(IDS).logits, wanted)
    with adaptr.train(model, adapter) as session:
        trained = stepped(session, model)
        done = session.finish()
    unit = (tiny.WIDTH / 2048) ** 0.5
    found = trained.tensors[":D"].norm(dim=1) / unit
    torch.testing.assert_close(found, torch.tensor([0.25, 0.5, 0.25, 0.0]))
    assert bits_equal(done.tensors[":P"], trained.tensors[":E"] + trained.tensors[":D"])
    assert [*done.tensors] == [":P"]


def bare(model: Any, front: list[int]) -> torch.Tensor:
    """What the base gives for the batch with words in front."""
    whole = torch.cat([torch.tensor([front]).expand(len(IDS), -1), IDS], 1)
    return model(whole).logits[:, len(front) :]


@pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own
@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_outputs_of_the_examples_are_in_the_loss_of_training_as_in_pefts(decay: float) -> None:
    """Of the last example `decay`, of the one before its square."""
    peft = pytest.importorskip("peft")
    ids, types = [5, 9, 4, 7, 8], [1, 2, 4, 5, 8]
    said = {"opt_weighted_loss_type": "decay", "opt_loss_decay_factor": decay}
    theirs = peft.get_peft_model(
        made(llama), peft.CPTConfig(cpt_token_ids=ids, cpt_tokens_type_mask=types, task_type="CAUSAL_LM", **said)
    )
    model = made(llama)
    adapter = adaptr.create(model, "cpt", ids=ids, types=types, decay=decay)
    with adaptr.train(model, adapter):
        found = model(input_ids=IDS, labels=IDS).loss
    assert_close(found, theirs(input_ids=IDS, labels=IDS).loss)
    with adaptr.attach(model, adapter), torch.no_grad():
        out = model(input_ids=IDS, labels=IDS)
    assert_close(out.loss, cross_entropy(model_logits(model, ids), IDS.flatten()))


@pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own
@pytest.mark.parametrize(("how", "decay"), [("none", 1.0), ("decay", 0.5)])
def test_how_much_examples_count_and_move_is_in_pefts_files(how: str, decay: float, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    said = {"opt_weighted_loss_type": how, "opt_loss_decay_factor": decay, "opt_projection_epsilon": 0.3}
    said["opt_projection_format_epsilon"] = 0.2
    ids = {"cpt_token_ids": [5, 9], "cpt_tokens_type_mask": [1, 4], "task_type": "CAUSAL_LM"}
    peft.get_peft_model(made(llama), peft.CPTConfig(**ids, **said)).save_pretrained(tmp_path / "theirs")
    theirs = adaptr.load(tmp_path / "theirs").config
    assert (theirs["decay"], theirs["eps"], theirs["eps_form"]) == (decay, 0.3, 0.2)
    own = adaptr.create(made(llama), "cpt", ids=[5, 9], types=[1, 4], decay=decay, eps=0.3, eps_form=0.2)
    adaptr.save(own, tmp_path / "a.safetensors")
    adaptr.convert(tmp_path / "a.safetensors", tmp_path / "own", to="peft", base=made(llama))
    written = json.loads((tmp_path / "own" / "adapter_config.json").read_text())
    assert {name: written[name] for name in said} == said
    written["opt_weighted_loss_type"] = "rising"
    (tmp_path / "own" / "adapter_config.json").write_text(json.dumps(written))
    with pytest.raises(ConfigConflict, match=r"`opt_weighted_loss_type`.*wanted `none` or `decay`"):
        adaptr.load(tmp_path / "own")


def model_logits(model: Any, front: list[int]) -> torch.Tensor:
    """The predictions of the whole text, the first by the last word in front."""
    with torch.no_grad():
        whole = torch.cat([torch.tensor([front]).expand(len(IDS), -1), IDS], 1)
        return model(whole).logits[:, len(front) - 1 : -1].flatten(0, 1)


@pytest.mark.parametrize("config", [{}, {"ids": [5, 9], "types": [2]}, {"ids": [5, 9], "tokens": 3}], ids=str)
def test_examples_need_words_and_what_each_is(config: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match="`text` or `ids`"):
        adaptr.create(tiny.model("llama"), "cpt", **config)


# ---------------------------------------------------------------- cartridges


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox", "gemma2"])
def test_a_fresh_cartridge_is_its_text_in_front(name: str) -> None:
    model = tiny.model(name)
    adapter = adaptr.create(model, "cartridge", ids=[5, 9, 4, 7])
    with torch.no_grad():
        wanted = bare(model, [5, 9, 4, 7])
        with adaptr.attach(model, adapter):
            assert_close(model(IDS).logits, wanted)


def test_a_cartridge_of_part_of_a_text_whose_first_tokens_stay() -> None:
    model = tiny.model("llama")
    adapter = adaptr.create(model, "cartridge", ids=[5, 9, 4, 7, 8], tokens=3, frozen=2)
    with torch.no_grad():
        wanted = bare(model, [5, 9, 4])
        with adaptr.attach(model, adapter):
            assert_close(model(IDS).logits, wanted)
    with adaptr.train(model, adapter) as session:
        trained = stepped(session, model)
    for key, tensor in adapter.tensors.items():
        assert torch.equal(trained.tensors[key][:, :2], tensor[:, :2])
        assert bool((trained.tensors[key][:, 2:] != tensor[:, 2:]).all())


def test_a_cartridge_needs_a_decoder_and_a_text_of_its_length() -> None:
    with pytest.raises(Unsupported, match="cache of a decoder"):
        adaptr.create(tiny.model("t5"), "cartridge")
    with pytest.raises(BadConfig, match="2, the text's, or less"):
        adaptr.create(tiny.model("llama"), "cartridge", ids=[5, 9], tokens=3)


def test_rows_that_stay_words_are_counted_where_they_are_put_together() -> None:
    model = tiny.model("llama")
    one, two = (adaptr.create(model, "prompt", ids=[5, 9, 4], frozen=[row], seed=row) for row in (0, 2))
    assert adaptr.compose([one, two], "concat").adapter.config["frozen"] == [0, 5]


@pytest.mark.parametrize("said", [{"tokens": 0, "rows": 2}, {"tokens": 3, "rows": 2}, {"frozen": [20]}])
def test_tokens_are_rows_that_there_are(said: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match=r"1 to|from 0 to 19"):
        adaptr.create(tiny.model("llama"), "prompt", **said)
