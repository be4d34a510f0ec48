"""UniPELT: three gated parts, each held against its formula, exact behind padding and caches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.adapter import Target
from adaptr.errors import Unsupported
from adaptr.testing import assert_close, logits, shaken, tiny_llama

PARTS = ["gated-lora", "gated-pfeiffer", "gated-prefix"]


@torch.no_grad()
def run(model: Any, **inputs: Any) -> torch.Tensor:
    return logits(model(**inputs))


def taken(model: Any, path: str, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(input, output) of a module in a forward."""
    found: list[Any] = []

    def keep(module: Any, args: Any, kwargs: Any, y: Any) -> None:
        found.extend([args[0] if args else next(iter(kwargs.values())), y[0] if isinstance(y, tuple) else y])

    hook = model.get_submodule(path).register_forward_hook(keep, with_kwargs=True)
    run(model, **inputs)
    hook.remove()
    return found[0], found[1]


@pytest.mark.parametrize("of", ["text", "token"])
@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_the_part_beside_weights_is_a_gated_lora(name: str, of: str) -> None:
    model = tiny.model(name)
    made = shaken(adaptr.create(model, "gated-lora", r=3, of=of))
    path = next(iter(made.targets))
    p, (x, y) = made.at(path), taken(model, path, tiny.inputs(name))
    gate = (x @ p["g"] + p["c"]).sigmoid()[..., None]
    gate = gate.mean(1, keepdim=True) if of == "text" else gate
    with adaptr.attach(model, made):
        _, found = taken(model, path, tiny.inputs(name))
    assert_close(found, y + gate * (x @ p["A"].T @ p["B"].T))


@pytest.mark.parametrize("of", ["text", "token"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_the_part_at_attentions_is_one_softmax_over_a_gated_prefix(name: str, of: str) -> None:
    """Against eager attention written out for the first layer, each query with its own keys in front."""
    model = tiny.model(name)
    model.set_attn_implementation("eager")
    made = shaken(adaptr.create(model, "gated-prefix", tokens=3, of=of))
    path = next(iter(made.targets))
    p, (x, _) = made.at(path), taken(model, path, tiny.inputs(name))
    seen: dict[str, torch.Tensor] = {}
    from adaptr.sites import attention

    whole = attention._own

    def keep(base: Any, a: Any) -> Any:
        if a.module is model.get_submodule(path):
            seen.setdefault("q", a.q[..., : p["K"].shape[-1]])
            seen.setdefault("k", a.k[:, :, -x.shape[1] :, : p["K"].shape[-1]])
            seen.setdefault("v", a.v[:, :, -x.shape[1] :, : p["K"].shape[-1]])
        return whole(base, a)

    patch = pytest.MonkeyPatch()
    patch.setattr(attention, "_own", keep)
    with patch.context(), adaptr.attach(model, made):
        found = taken(model, path if name == "bert" else f"{path}.o_proj", tiny.inputs(name))
    patch.undo()
    y = found[1] if name == "bert" else found[0]
    q, k, v = seen["q"], seen["k"], seen["v"]
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    K, V = (p[n].repeat_interleave(q.shape[1] // len(p[n]), 0)[None] for n in ("K", "V"))
    gate = (x @ p["g"] + p["c"]).sigmoid()
    gate = (gate.mean(1, keepdim=True).expand_as(gate) if of == "text" else gate)[:, None, :, None]
    scores = torch.cat([gate * (q @ K.mT), q @ k.mT], -1) / math.sqrt(q.shape[-1])
    if name == "llama":
        ahead = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        scores[..., 3:] = scores[..., 3:].masked_fill(ahead, float("-inf"))
    s = scores.softmax(-1)
    wanted = gate * (s[..., :3] @ V) + s[..., 3:] @ v
    assert_close(y.reshape(wanted.shape[0], x.shape[1], -1), wanted.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("of", ["text", "token"])
def test_the_part_behind_the_feed_forward_is_a_gated_bottleneck(of: str) -> None:
    model, path = tiny.model("bert"), "bert.encoder.layer.0.output.dropout"
    made = shaken(adaptr.create(model, "gated-pfeiffer", m=4, of=of))
    p, said = made.at(path), made.targets[path].config
    r, (_, h) = taken(model, said["reads"], tiny.inputs("bert"))[0], taken(model, path, tiny.inputs("bert"))
    z = model.get_submodule(said["calls"])(h + r)
    gate = (z @ p["g"] + p["c"]).sigmoid()[..., None]
    gate = gate.mean(1, keepdim=True) if of == "text" else gate
    with adaptr.attach(model, made):
        _, found = taken(model, path, tiny.inputs("bert"))
    assert_close(found, h + gate * ((z @ p["D"].T + p["b_d"]).relu() @ p["U"].T + p["b_u"]))


@pytest.mark.parametrize("method", [*PARTS, "unipelt"])
def test_padding_changes_nothing_in_an_encoder(method: str) -> None:
    model = tiny.model("bert")
    made = shaken(adaptr.create(model, method, **plugins.method(method).small))
    ids = torch.arange(5)[None] + 3
    padded = {"input_ids": torch.cat([ids, ids[:, :2]], 1), "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0, 0]])}
    with adaptr.attach(model, made):
        assert_close(run(model, **padded)[:, :5], run(model, input_ids=ids))


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_what_generates_gives_behind_a_cache_and_with_beams_what_it_gives_at_once(name: str) -> None:
    model = tiny.model(name)
    made = shaken(adaptr.create(model, "unipelt", m=4, r=2, tokens=3))
    inputs = {key: value for key, value in tiny.inputs(name).items() if key == "input_ids"}
    with torch.no_grad(), adaptr.attach(model, made):
        for beams in (1, 3):
            said = [model.generate(**inputs, max_new_tokens=5, num_beams=beams, use_cache=on) for on in (True, False)]
            assert torch.equal(*said)


def test_a_gate_of_a_text_is_refused_behind_a_cache() -> None:
    model = tiny_llama()
    made = adaptr.create(model, "gated-lora", of="text")
    ids = torch.arange(7)[None] + 3
    with torch.no_grad(), adaptr.attach(model, made):
        cache = model(ids[:, :4], use_cache=True).past_key_values
        with pytest.raises(Unsupported, match="does not know what of it is in the cache"):
            model(ids[:, 4:], past_key_values=cache)


def test_other_prefixes_stand_beside_one_of_tokens() -> None:
    """Whichever is attached first: what is narrower is filled up."""
    model = tiny_llama()
    gated, plain = (
        shaken(adaptr.create(model, "gated-prefix", tokens=3)),
        shaken(adaptr.create(model, "prefix", tokens=2)),
    )
    found = []
    for pair in ((gated, plain), (plain, gated)):
        with adaptr.attach(model, pair[0]), adaptr.attach(model, pair[1]):
            found.append(run(model, **tiny.inputs("llama")))
    assert_close(*found)


@pytest.mark.parametrize("of", ["text", "token"])
def test_several_gates_have_a_part_of_the_rank_each(of: str) -> None:
    model = tiny.model("gpt2")
    made = shaken(adaptr.create(model, "gated-lora", r=4, of=of, gates=2))
    path = next(iter(made.targets))
    p, (x, y) = made.at(path), taken(model, path, tiny.inputs("gpt2"))
    gates = (x @ p["g"].view(2, -1).T + p["c"]).sigmoid()
    gates = gates.mean(1, keepdim=True) if of == "text" else gates
    halves = [gates[..., n, None] * (x @ p["A"][part].T @ p["B"][:, part].T)
              for n, part in enumerate((slice(0, 2), slice(2, 4)))]  # fmt: skip
    with adaptr.attach(model, made):
        _, found = taken(model, path, tiny.inputs("gpt2"))
    assert_close(found, y + sum(halves))


@pytest.mark.parametrize("of", ["text", "token"])
def test_a_prefix_may_have_a_gate_for_its_values(of: str) -> None:
    """Of which the second alone, where that of the keys is shut, is a factor of the values."""
    model = tiny_llama()
    two = shaken(adaptr.create(model, "gated-prefix", tokens=3, of=of, gates=2))
    same = {key: t[: len(t) // 2].repeat(2) if key.endswith((":g", ":c")) else t for key, t in two.tensors.items()}
    once = {key: t[: len(t) // 2] if key.endswith((":g", ":c")) else t for key, t in same.items()}
    one = adaptr.create(model, "gated-prefix", tokens=3, of=of).replace(tensors=once)
    found = []
    for made in (two, two.replace(tensors=same), one):
        with adaptr.attach(model, made):
            found.append(run(model, **tiny.inputs("llama")))
    assert_close(found[1], found[2])
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_the_papers_counts() -> None:
    """Of BERT-base: 1,373,760 and gates of 36,912."""
    layer = [
        ("gated-lora", Target("q", "linear", (768, 768), {"r": 8, "of": "text"})),
        ("gated-lora", Target("v", "linear", (768, 768), {"r": 8, "of": "text"})),
        ("gated-prefix", Target("a", "attention", (12, 64), {"tokens": 10, "width": 768, "of": "text"})),
        ("gated-pfeiffer", Target("f", "module", (768,), {"m": 48, "of": "text"})),
    ]
    assert 12 * sum(plugins.method(name).count(target) for name, target in layer) == 1_373_760 + 36_912
