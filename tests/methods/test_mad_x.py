"""MAD-X: couplings that come out as they went in, and a language below a task."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.adapter import Target
from adaptr.errors import BadConfig, Unsupported
from adaptr.testing import assert_close, count, logits, shaken

HOSTS = ["llama", "bert", "gpt2"]


def headed(name: str) -> Any:
    from transformers import BertForMaskedLM

    return tiny.model(name) if name != "bert" else tiny.seeded(BertForMaskedLM(tiny.model("bert").config).eval())


@torch.no_grad()
def run(model: Any, name: str) -> torch.Tensor:
    return logits(model(**tiny.inputs(name)))


def test_the_way_back_is_the_inverse() -> None:
    method = plugins.method("invertible")
    made = shaken(adaptr.create(tiny.model("llama"), "invertible"))
    p, cfg = made.at("model.embed_tokens"), method.config(made.config)
    x = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    there = method.output(x, x, p, cfg)
    assert float((there - x).abs().max()) > 0.1
    assert float((method.input(there, p, cfg) - x).abs().max()) < 1e-5


@pytest.mark.parametrize("name", HOSTS)
def test_it_is_at_the_embeddings_and_before_the_head(name: str) -> None:
    """Written down with hooks, without the method's own code."""
    model = headed(name)
    made = shaken(adaptr.create(model, "invertible"))
    (path,) = made.targets
    p = made.at(path)

    def network(side: str, x: torch.Tensor) -> torch.Tensor:
        return (x @ p[f"{side}_D"].T + p[f"{side}_b"]).relu() @ p[f"{side}_U"].T + p[f"{side}_c"]

    def forth(module: Any, x: Any, y: torch.Tensor) -> torch.Tensor:
        one, two = y.chunk(2, -1)
        one = one + network("F", two)
        return torch.cat([one, two + network("G", one)], -1)

    def back(module: Any, x: Any) -> Any:
        one, two = x[0].chunk(2, -1)
        two = two - network("G", one)
        return (torch.cat([one - network("F", two), two], -1),)

    with adaptr.attach(model, made):
        found = run(model, name)
    hooks = [model.get_submodule(path).register_forward_hook(forth)]
    hooks.append(model.get_output_embeddings().register_forward_pre_hook(back))
    wanted = run(model, name)
    [hook.remove() for hook in hooks]
    assert_close(found, wanted)


def test_both_places_have_one_pair_of_networks_that_learns_and_a_model_without_head_has_the_first() -> None:
    model = headed("bert")
    made = adaptr.create(model, "invertible")
    with adaptr.train(model, made) as session:
        at, before = session.states.values()
        assert at["F_U"] is before["F_U"]
        assert sum(p.numel() for p in session.parameters()) == count(made)
    bare = tiny.model("bert")
    with adaptr.attach(bare, made.renamed({path: path.removeprefix("bert.") for path in made.targets})) as handle:
        assert len(handle.states) == 1


def test_a_language_is_below_a_task_and_others_are_put_in_its_place() -> None:
    model = headed("bert")
    language, other = (shaken(adaptr.create(model, "mad-x"), seed) for seed in (1, 2))
    assert language.parts["language"].config["m"] == 16
    task = shaken(adaptr.create(model, "pfeiffer", m=4), 3)
    with adaptr.stack(model, {"language": language, "task": task}):
        stacked = run(model, "bert")
    with adaptr.attach(model, language), adaptr.attach(model, task):
        assert_close(run(model, "bert"), stacked)
    with adaptr.attach(model, other), adaptr.attach(model, task):
        assert not torch.isclose(run(model, "bert"), stacked).all()


def test_a_task_alone_learns_on_a_language() -> None:
    model = headed("bert").train()
    language, task = shaken(adaptr.create(model, "mad-x")), adaptr.create(model, "pfeiffer", m=4)
    with adaptr.attach(model, language), adaptr.train(model, task) as session:
        logits(model(**tiny.inputs("bert"))).square().mean().backward()
        own = {id(p) for p in session.parameters()}
        assert {id(p) for p in model.parameters() if p.grad is not None} == own


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [({"reduction": 3}, BadConfig, "wanted a divisor of half of 32"), ({"reduction": 0}, BadConfig, "at least 1")],
)
def test_sizes_that_do_not_divide_are_refused(config: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        adaptr.create(tiny.model("llama"), "invertible", **config)


def test_strengths_and_two_texts_are_refused() -> None:
    model = tiny.model("llama")
    with pytest.raises(Unsupported, match="no strength but 0 and 1"):
        adaptr.attach(model, adaptr.create(model, "invertible"), 0.5)
    with pytest.raises(Unsupported, match="an encoder and a decoder read two"):
        adaptr.train(tiny.model("t5"), adaptr.create(tiny.model("t5"), "invertible", ["shared"]))


def test_the_papers_counts() -> None:
    """Of mBERT and XLM-R base: 296,064 of the invertible part, 7,387,776 of a language."""
    place = Target("embeddings", "module", (768,))
    assert plugins.method("invertible").count(place) == 296_064
    layer = Target("layer", "module", (768,), {"m": 384})
    assert 12 * plugins.method("pfeiffer").count(layer) + 296_064 == 7_387_776
