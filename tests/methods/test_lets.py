"""Learn-to-Share: a task's stream beside the base's against its formula written out, what is chosen, and its course."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, silu

import adaptr
import tiny
from adaptr import Sparse, errors
from adaptr.adapter import Adapter
from adaptr.testing.closeness import assert_close, bits_equal
from adaptr.testing.samples import shaken


def lets(model: Any, reused: tuple[str, ...] = (), **config: Any) -> Adapter:
    """One whose differences are no zeros, and whose choices are known."""
    made = shaken(adaptr.create(model, "lets", **{"share": 0.1, **config}), by=0.3)
    said = {key: torch.tensor([-1.0 if key[:-2] in reused else 1.0]) for key in made.tensors if key.endswith(":c")}
    return made.replace(tensors={**made.tensors, **said})


def fused(layers: list[Tensor], q: Tensor) -> Tensor:
    every = torch.stack(layers)
    return ((layer_norm(every, every.shape[-1:]) @ q).softmax(0)[..., None] * every).sum(0)


def written_out(model: Any, adapter: Adapter, ids: Tensor, reused: tuple[str, ...] = ()) -> Tensor:
    """The logits of a Llama: each layer by its weight and what it is given in either stream."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

    given: dict[str, Tensor] = {}
    puts: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda m, x, y, path=path: given.update({path: y}))
        for path, module in model.named_modules()
        if path in adapter.targets and "_proj" in path
    ]
    hooks += [block.register_forward_hook(lambda m, x, y: puts.append(y)) for block in model.model.layers]
    model(ids)
    for hook in hooks:
        hook.remove()
    z = model.model.embed_tokens(ids)
    streams, angles = [z], model.model.rotary_emb(z, torch.arange(ids.shape[1])[None])

    def task(path: str, x: Tensor) -> Tensor:
        at = adapter.at(path)
        shape = adapter.targets[path].shape
        return given[path] + x @ Sparse(at["i"], at["v"], (shape[0], shape[1])).dense().T

    for number, block in enumerate(model.model.layers):
        path = f"model.layers.{number}"
        n = block.input_layernorm(z)
        q, k, v = (task(f"{path}.self_attn.{name}_proj", n).unflatten(-1, (-1, 8)).transpose(1, 2) for name in "qkv")
        q, k = apply_rotary_pos_emb(q, k, *angles)
        a = q @ repeat_kv(k, 2).mT / 8**0.5 + torch.full((ids.shape[1],) * 2, float("-inf")).triu(1)
        y = z + task(f"{path}.self_attn.o_proj", (a.softmax(-1) @ repeat_kv(v, 2)).transpose(1, 2).flatten(2))
        n = block.post_attention_layernorm(y)
        inner = silu(task(f"{path}.mlp.gate_proj", n)) * task(f"{path}.mlp.up_proj", n)
        z = puts[number] if path in reused else y + task(f"{path}.mlp.down_proj", inner)
        streams.append(z)
    found: Tensor = model.lm_head(model.model.norm(fused(streams, adapter.tensors["model.layers.1:q"])))
    return found


@pytest.mark.parametrize("reused", [(), ("model.layers.0",), ("model.layers.1",)])
def test_it_is_its_formula_written_out(reused: tuple[str, ...]) -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    adapter = lets(model, reused)
    with torch.no_grad():
        wanted, before = written_out(model, adapter, ids, reused), model(ids).logits
        with adaptr.attach(model, adapter):
            assert_close(model(ids).logits, wanted)
        with adaptr.attach(model, adapter, 0.5):
            assert not bits_equal(model(ids).logits, wanted)
        assert bits_equal(model(ids).logits, before)


@pytest.mark.parametrize("kind", ["llama", "bert", "gpt2", "deberta", "modernbert"])
def test_what_has_no_difference_or_is_used_again_is_the_base(kind: str) -> None:
    """All blocks used again, and blocks computed with a difference of zero: frozen features, fused, and the head."""
    model, given = tiny.model(kind), tiny.inputs(kind)
    adapter = lets(model)
    again = {key: -torch.ones(1) for key in adapter.tensors if key.endswith(":c")}
    zero = {key: torch.zeros_like(t) for key, t in adapter.tensors.items() if key.endswith(":v")}
    found = []
    for change in (again, zero):
        with torch.no_grad(), adaptr.attach(model, adapter.replace(tensors={**adapter.tensors, **change})):
            found.append(model(**given).logits)
    assert_close(*found)
    with torch.no_grad(), adaptr.attach(model, adapter):
        assert float((model(**given).logits - found[0]).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize("beams", [1, 3])
def test_its_stream_has_keys_of_its_own_in_the_cache(kind: str, beams: int) -> None:
    model, ids = tiny.model(kind), tiny.inputs(kind)["input_ids"]
    first, second = (path for path, t in adaptr.create(model, "lets").targets.items() if t.config["block"])
    said = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    for reused in ((), (first,), (second,), (first, second)):
        adapter = finished(model, lets(model, reused)) if reused else lets(model)
        with adaptr.attach(model, adapter):
            assert torch.equal(model.generate(ids, **said), model.generate(ids, use_cache=False, **said))


def finished(model: Any, adapter: Adapter) -> Adapter:
    with adaptr.train(model, adapter) as session:
        return session.finish()


def test_blocks_that_are_used_again_keep_nothing() -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    adapter = lets(model, ("model.layers.1",))
    made = finished(model, adapter)
    assert {path for path in made.targets if path.startswith("model.layers.1")} == {"model.layers.1"}
    assert {key for key in made.tensors if key.startswith("model.layers.1")} == {"model.layers.1:q"}
    assert not [key for key in made.tensors if key.endswith(":c")]
    with torch.no_grad():
        with adaptr.attach(model, adapter):
            wanted = model(ids).logits
        with adaptr.attach(model, made):
            assert_close(model(ids).logits, wanted)


def test_places_are_where_the_gradient_at_zero_is_largest() -> None:
    """That of a difference that may be anywhere, by autograd."""
    model, given = tiny.model("bert"), tiny.inputs("bert")
    loss = lambda: model(**given, labels=torch.tensor([0, 1])).loss
    with adaptr.train(model, adaptr.create(model, "lets", share=1.0)) as session:
        model.eval()
        loss().backward()
        wanted = {key[:-2]: p.grad.abs() for key, p in session.named().items() if key.endswith(":v")}
    with adaptr.train(model.train(), adaptr.create(model, "lets", share=0.1)) as session:
        session.prepare([lambda: (loss(), None)])
        assert model.training
        made = session.adapted()
    for path, grad in wanted.items():
        places = made.tensors[f"{path}:i"]
        assert float(grad[places].min()) >= float(grad.sort(descending=True).values[len(places)]) * (1 - 1e-4)
    with (
        adaptr.train(model, adaptr.create(model, "lets")) as session,
        pytest.raises(errors.UsageError, match="batches"),
    ):
        session.prepare()


def test_choices_are_searched_then_made(tmp_path: Path) -> None:
    """By the draw of each forward, with a price; then for good, and the differences begin again."""
    model, given = tiny.model("bert").train(), tiny.inputs("bert")
    with adaptr.train(model, adaptr.create(model, "lets", share=0.1, cost=2.0)) as session:
        assert [phase.name for phase in session.phases()] == ["search", "retrain"]
        run = lambda: ((out := model(**given, labels=torch.tensor([0, 1]))).loss, out)
        c = {key: p for key, p in session.named().items() if key.endswith(":c")}
        v = {key: p for key, p in session.named().items() if key.endswith(":v")}
        assert float(torch.as_tensor(session.penalty()).detach()) == pytest.approx(2.0 * 0.5)
        session.objective(run).backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in c.values())
        with torch.no_grad():
            for p in v.values():
                p.add_(1.0)
            next(iter(c.values())).fill_(-0.1)
        session.begin(1)
        assert [float(p.detach()) for p in c.values()] == [-64.0, 64.0]
        assert not any(bool(p.any()) for p in v.values())
        assert session.penalty() == 0.0
        for p in c.values():
            p.grad = None
        session.objective(run).backward()
        assert not any(bool(p.grad.any()) for p in c.values())
        assert next(iter(session.finish().targets.values())).config["reused"]


def test_it_learns_to_classify_through_a_recipe(tmp_path: Path) -> None:
    from training_data import tokenizer

    torch.manual_seed(0)
    tiny.MAKERS["bert"]().save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    rows = [{"text": f"w{i % 7} w{(3, 9)[i % 2]} w{i % 5}", "label": "ab"[i % 2]} for i in range(24)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = adaptr.fit(
        tmp_path / "base", tmp_path / "rows.jsonl", tmp_path / "a.safetensors",
        task="classify", method="lets", config={"share": 0.1}, also=["head"], steps=24, rate=0.02, samples=0,
    )  # fmt: skip
    assert report.after["loss"] < report.before["loss"]
    made = adaptr.load(report.out)
    assert made.config["finished"]
    assert not [key for key in made.tensors if key.endswith(":c")]
    with pytest.raises(errors.NotMergeable, match="network beside the model"):
        adaptr.merge(tmp_path / "base", made, tmp_path / "merged")


def test_what_it_can_not_go_beside_is_refused() -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    with pytest.raises(errors.Unsupported, match="in none of its blocks"):
        adaptr.create(model, "lets", ["model.layers.0", "re:.*layers.1.mlp.up_proj"])
    with pytest.raises(errors.Unsupported, match="the model has two"):
        adaptr.create(tiny.model("t5"), "lets")
    with pytest.raises(errors.BadConfig, match="`share` and `tau`"):
        adaptr.create(model, "lets", share=0.0)
    filled = model(ids, use_cache=True).past_key_values
    with adaptr.attach(model, lets(model)):
        with pytest.raises(errors.Unsupported, match="7 tokens that this adapter has not seen"):
            model(ids[:, :1], past_key_values=filled)
        with adaptr.attach(model, lets(model)), pytest.raises(errors.Unsupported, match="two task streams"):
            model(ids)
    split = adaptr.BatchSplit(lets(model), None)
    with adaptr.attach(model, split), pytest.raises(errors.Unsupported, match="runs apart from its block"):
        model(ids)


@pytest.mark.parametrize("depth", [0, 1, 10**9])
def test_a_file_that_counts_other_blocks_than_the_base_has_is_refused(depth: int) -> None:
    model = tiny.model("llama")
    found = adaptr.create(model, "lets")
    targets = {path: dataclasses.replace(t, config={**t.config, "depth": depth}) for path, t in found.targets.items()}
    with pytest.raises(errors.Unsupported, match=f"counts {depth} blocks in the base, which has 2"):
        adaptr.attach(model, found.replace(targets=targets))
