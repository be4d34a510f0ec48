"""AdapterFusion: the paper's sum over trained adapters, written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.testing import assert_close, count, logits, shaken


def fused(model: Any, seeds: tuple[int, ...] = (1, 2, 3), method: str = "pfeiffer") -> adaptr.Adapter:
    parts = {f"p{n}": shaken(adaptr.create(model, method, ["ffn_out"], m=4), n) for n in seeds}
    return shaken(adaptr.create(model, "adapter-fusion", children=parts), 9)


@pytest.mark.parametrize("name", ["llama", "bert", "gpt2", "t5", "distilbert"])
def test_it_is_the_papers_sum(name: str) -> None:
    """At one place, from what goes into it: of BERT LN(h + r), the norm that it has there."""
    model = tiny.model(name)
    made = fused(model)
    path = next(iter(made.targets))
    taken: dict[str, Any] = {}
    module, said = model.get_submodule(path), made.targets[path].config

    def keep(key: str) -> Any:
        return lambda m, x, y=None: taken.setdefault(key, (x[0] if y is None else y).detach())

    with torch.no_grad():
        hooks = [module.register_forward_hook(keep("h"))]
        hooks.append(model.get_submodule(said["reads"] or path).register_forward_pre_hook(keep("r")))
        model(**tiny.inputs(name))
        [hook.remove() for hook in hooks]
        with adaptr.attach(model, made):
            hook = module.register_forward_hook(keep("y"))
            model(**tiny.inputs(name))
            hook.remove()
        h, p = taken["h"], made.at(path)
        z = model.get_submodule(said["calls"])(h + taken["r"]) if said["calls"] else h
        a = []
        for part in made.parts:
            t = made.part(part).at(path)
            a.append((z @ t["D"].T + t["b_d"]).relu() @ t["U"].T + t["b_u"])
        scores = torch.stack([((z @ p["Q"].T + p["b_q"]) * (one @ p["K"].T + p["b_k"])).sum(-1) for one in a])
        wanted = h + sum(s[..., None] * (one @ p["V"].T) for s, one in zip(scores.softmax(0), a, strict=True))
    assert bool(said["calls"]) == (name in {"bert", "distilbert"})
    assert_close(taken["y"], wanted)


def test_where_the_adapters_read_different_things_it_asks_by_the_output() -> None:
    model = tiny.model("bert")
    parts = {"a": adaptr.create(model, "pfeiffer", m=4), "b": adaptr.create(model, "houlsby", ["ffn_out"], m=4)}
    made = adaptr.create(model, "adapter-fusion", children=parts)
    assert not any(target.config["calls"] for target in made.targets.values())


def test_a_fresh_one_adds_the_mean() -> None:
    model = tiny.model("llama")
    part = shaken(adaptr.create(model, "pfeiffer", m=4))
    other = {key: t * (1 + 1e-6) for key, t in part.tensors.items()}  # the same adapter twice is refused
    twins = {"a": part.replace(name="a"), "b": part.replace(name="b", tensors=other)}
    made = adaptr.create(model, "adapter-fusion", children=twins)
    with torch.no_grad():
        with adaptr.attach(model, made):
            found = logits(model(**tiny.inputs("llama")))
        with adaptr.attach(model, part):
            assert_close(found, logits(model(**tiny.inputs("llama"))), to=1e-4)


def test_v_is_held_near_one() -> None:
    model = tiny.model("llama")
    made = fused(model)
    with adaptr.train(model, made) as session:
        V = [t for key, t in made.tensors.items() if key.endswith(":V")]
        wanted = 0.01 * sum(((torch.eye(32) - v) ** 2).sum() for v in V)
        assert_close(torch.as_tensor(session.penalty()).detach(), wanted)


def test_the_papers_count() -> None:
    """Of BERT-base: more than all that it is made of."""
    targets = {str(layer): adaptr.Target(str(layer), "module", (768,), {"experts": ["a", "b"]}) for layer in range(12)}
    assert count(adaptr.Adapter("adapter-fusion", {}, targets, {})) == 21_252_096
