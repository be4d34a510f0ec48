"""Heads, norms and embeddings that are trained whole beside any method."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import errors
from adaptr.testing import Driver, count
from adaptr.testing.training import TrainingLaws

NORMS = ("input", "post_attention")


def loss(output: Any, batch: Any) -> torch.Tensor:
    found: torch.Tensor = output.logits.log_softmax(-1)[..., 0].mean().neg()
    return found


def whole(adapter: adaptr.Adapter) -> set[str]:
    return {key.removesuffix(":=") for key in adapter.tensors if key.endswith(":=")}


def trained(kind: str, method: str, also: Any, **more: Any) -> tuple[Any, adaptr.Adapter, torch.Tensor]:
    model = tiny.model(kind).train()
    with adaptr.train(model, adaptr.create(model, method, also=also, **more)) as session:
        Driver(session, [tiny.inputs(kind)], 3, loss).fit()
        model.eval()
        with torch.no_grad():
            logits = model(**tiny.inputs(kind)).logits
        return model, session.finish(), logits


@pytest.mark.parametrize("method", ["lora", "parallel", "prompt", "ia3", "mam"])
def test_heads_and_norms_learn_beside_any_method_and_come_back_from_a_file(method: str, tmp_path: Any) -> None:
    base = dict(tiny.model("llama").named_parameters())
    model, adapter, logits = trained("llama", method, ["head", "norm"])
    assert whole(adapter) == {"lm_head.weight", *(name for name in base if "norm" in name)}
    assert all(not torch.equal(adapter.tensors[f"{name}:="], base[name]) for name in whole(adapter))
    assert all(torch.equal(p, base[name]) for name, p in model.named_parameters())
    adaptr.save(adapter, tmp_path / "a.safetensors")
    with adaptr.attach(model, adaptr.load(tmp_path / "a.safetensors")), torch.no_grad():
        torch.testing.assert_close(model(**tiny.inputs("llama")).logits, logits)


def test_what_is_tied_learns_as_one_and_stays_tied() -> None:
    model, adapter, logits = trained("gpt2", "lora", ["head"], targets=["attn.qkv"])
    assert whole(adapter) == {"transformer.wte.weight"}
    with adaptr.attach(model, adapter), torch.no_grad():
        assert model.lm_head.weight is model.transformer.wte.weight
        torch.testing.assert_close(model(**tiny.inputs("gpt2")).logits, logits)
    assert model.lm_head.weight is model.transformer.wte.weight


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("model.norm", {"model.norm.weight"}),
        ("model.layers.0.*_layernorm.weight", {f"model.layers.0.{n}_layernorm.weight" for n in NORMS}),
        (r"re:.*\.1\.mlp\..*", {f"model.layers.1.mlp.{n}_proj.weight" for n in ("gate", "up", "down")}),
        ("embed", {"model.embed_tokens.weight"}),
    ],
)  # fmt: skip
def test_a_word_is_a_role_a_path_a_pattern_or_an_expression(word: str, found: set[str]) -> None:
    assert whole(adaptr.create(tiny.model("llama"), "lora", ["attn.q"], also=word)) == found


@pytest.mark.parametrize(
    ("word", "error", "words"),
    [
        ("nrom", errors.TargetNotFound, "`nrom` names no parameter.*did you mean.*norm"),
        ("model.layers.0.self_attn.q_proj", errors.UsageError, "trained whole and by `lora` at once"),
    ],
)
def test_what_cannot_be_is_refused(word: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        adaptr.create(tiny.model("llama"), "lora", ["attn.q"], also=[word])


def test_packed_parameters_are_refused() -> None:
    model = tiny.model("llama")
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(errors.Unsupported, match=r"`lm_head\.weight` is packed"):
        adaptr.create(model, "lora", ["attn.q"], also=["head"])


class TestBeside(TrainingLaws):
    """Training that goes on, groups and what is finished have them too."""

    method = "adalora"

    def model(self) -> Any:
        return tiny.model("llama")

    def inputs(self) -> Any:
        return tiny.inputs("llama")

    def fresh(self, model: Any) -> adaptr.Adapter:
        return adaptr.create(model, "adalora", also=["norm", "head"], r=4, target_r=2, steps=4, tfinal=1)


def test_they_are_counted() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, "lora", ["attn.q"], also="norm", r=2)) as session:
        assert sum(p.numel() for p in session.parameters()) == count(session.adapter) == 2 * 2 * 64 + 5 * tiny.WIDTH
