"""Side networks: the ladder against its formula written out, what its backward keeps, caches; attention fusion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, rms_norm, silu

import adaptr
import tiny
from adaptr import errors
from adaptr.adapter import Adapter
from adaptr.testing.closeness import assert_close, bits_equal
from adaptr.testing.samples import shaken


def ladder(model: Any, **config: Any) -> Adapter:
    return shaken(adaptr.create(model, "ladder", reduction=4, **config))


def written_out(model: Any, adapter: Adapter, ids: Tensor) -> Tensor:
    """The logits, with attention head by head and token by token."""
    h = model(ids, output_hidden_states=True)
    layers, cfg = [*h.hidden_states[:-1]], adapter.config
    with torch.no_grad():
        x = layers[-1]
        layers.append(model.model.layers[-1](x, position_embeddings=model.model.rotary_emb(x, torch.arange(7)[None])))
    at = lambda name, path="": adapter.tensors[f"{path}:{name}"]
    s = linear(layers[0], at("E"), at("b_e"))
    for path, out in zip(adapter.targets, layers[1:], strict=True):
        m = torch.sigmoid(at("mu", path) / cfg["T"])
        s = m * s + (1 - m) * linear(out, at("D", path), at("b", path))
        z, given = rms_norm(s, s.shape[-1:], at("n_1", path), 1e-6), torch.zeros(*s.shape[:2], 8)
        for head in range(4):
            rows = slice(2 * head, 2 * head + 2)
            mine = slice(2 * (head // 2), 2 * (head // 2) + 2)
            q, k, v = z @ at("Q", path)[rows].T, z @ at("K", path)[mine].T, z @ at("V", path)[mine].T
            angle = torch.arange(7.0)  # one pair a head: cfg.head is 2
            turn = torch.stack(
                [torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)], 1
            )
            q, k = (torch.einsum("tij,btj->bti", turn, one) for one in (q, k))
            for t in range(7):
                a = (q[:, t, None] * k[:, : t + 1]).sum(-1) / 2**0.5
                given[:, t, rows] = (a.softmax(-1)[..., None] * v[:, : t + 1]).sum(1)
        s = s + given @ at("O", path).T
        z = rms_norm(s, s.shape[-1:], at("n_2", path), 1e-6)
        s = s + (silu(z @ at("G", path).T) * (z @ at("W", path).T)) @ at("Z", path).T
    up = linear(rms_norm(s, s.shape[-1:], at("n"), 1e-6), at("U"), at("b_u"))
    found: Tensor = model.lm_head(model.model.norm(up))
    return found


def test_a_ladder_is_its_formula_written_out() -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    adapter = ladder(model)
    with torch.no_grad():
        wanted = written_out(model, adapter, ids)
        with adaptr.attach(model, adapter):
            assert_close(model(ids).logits, wanted)


def test_all_of_the_base_is_what_it_starts_as_where_nothing_is_pruned() -> None:
    model = tiny.model("llama")
    adapter = adaptr.create(model, "ladder", reduction=1)
    layer = model.model.layers[1]
    for name, weight in (("Q", layer.self_attn.q_proj), ("O", layer.self_attn.o_proj), ("Z", layer.mlp.down_proj)):
        assert bits_equal(adapter.tensors[f"model.layers.1:{name}"], weight.weight)
    half = adaptr.create(model, "ladder", reduction=2)
    part = half.tensors["model.layers.0:G"]
    assert part.shape == (24, 16)
    rows = (model.model.layers[0].mlp.gate_proj.weight[:, None, :, None] == part[None, :, None, :]).any(-1).sum(-1)
    assert int((rows == 16).sum()) == 24  # each row is one of the base's
    with pytest.raises(errors.Unsupported, match="Llama's or T5's form"):
        adaptr.create(tiny.model("gpt2"), "ladder", init="pruned")


def test_nothing_of_the_base_is_kept_for_the_backward() -> None:
    """But what the rungs read: D h_l, the head behind the side network, and that network's own."""
    model, ids = tiny.model("llama"), tiny.inputs("llama", batch=8)["input_ids"]
    kept: dict[str, int] = {}
    for method, config in (("ladder", {"reduction": 4}), ("lora", {"r": 4})):
        held: dict[int, int] = {}

        def pack(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with adaptr.train(model, adaptr.create(model, method, **config)):
            taps: list[bool] = []
            hook = model.model.layers[0].register_forward_hook(
                lambda _, __, out, taps=taps: taps.append(out.requires_grad)
            )
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                model(ids).logits.square().mean().backward()
            hook.remove()
            assert taps == [method == "lora"]
        kept[method] = sum(held.values())
    assert kept["ladder"] < kept["lora"]


def test_what_learns_below_is_refused() -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    with adaptr.train(model, adaptr.create(model, "lora")), adaptr.train(model, ladder(model)) as session:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        with pytest.raises(errors.Unsupported, match="another adapter learns below"):
            model(ids)
        assert session.model is model


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_cache_holds_the_side_networks_keys_whatever_becomes_of_it(name: str, beams: int) -> None:
    model, ids = tiny.model(name), tiny.inputs(name)["input_ids"]
    said = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    with adaptr.attach(model, ladder(model)):
        assert torch.equal(model.generate(ids, **said), model.generate(ids, use_cache=False, **said))


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_two_ladders_are_each_by_itself(name: str) -> None:
    """One that reads nothing of the blocks does what it does alone, whatever is below it."""
    model, given = tiny.model(name), tiny.inputs(name)
    one, two = ladder(model), shaken(adaptr.create(model, "ladder", reduction=8), 2)
    rungs = {key: torch.full((1,), 100.0) for key in two.tensors if key.endswith(":mu")}
    two = two.replace(tensors={**two.tensors, **rungs})
    with torch.no_grad(), adaptr.attach(model, two):
        wanted = model(**given).logits
    with torch.no_grad(), adaptr.attach(model, one), adaptr.attach(model, two):
        assert_close(model(**given).logits, wanted)


def test_caches_that_it_can_have_nothing_in_are_refused() -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    filled = model(ids, use_cache=True).past_key_values
    with adaptr.attach(model, ladder(model)):
        with pytest.raises(errors.Unsupported, match="7 tokens that this adapter has not seen"):
            model(ids[:, :1], past_key_values=filled)
        with pytest.raises(errors.Unsupported, match="static cache"):
            model.generate(ids, max_new_tokens=2, cache_implementation="static", pad_token_id=0)


@pytest.mark.parametrize("method", ["ladder", "attention-fusion", "lets"])
def test_padded_rows_are_what_they_are_alone(method: str) -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    padded, mask = torch.cat([ids[:1].roll(3, 1), ids[1:]]), torch.ones_like(ids)
    mask[0, :3] = 0
    with adaptr.attach(model, shaken(adaptr.create(model, method))), torch.no_grad():
        alone = model(ids[:1, :4]).logits
        assert_close(model(padded, attention_mask=mask).logits[:1, 3:], alone)


def test_blocks_that_are_dropped_are_not_read() -> None:
    model = tiny.model("llama")
    adapter = ladder(model)
    only = adaptr.create(model, "ladder", ["model.layers.1"], reduction=4)
    assert [*only.targets] == ["model.layers.1"]
    assert len(adapter.tensors) - len(only.tensors) == 12
    for name, method, targets, words in (
        ("t5", "attention-fusion", None, "the model has two"),
        ("t5", "ladder", ["decoder.block.0"], "are 1, wanted two of one width"),
        ("clip", "ladder", None, "are 2, wanted one"),
        ("albert", "ladder", None, "is several of the model's"),
    ):
        with pytest.raises(errors.Unsupported, match=words):
            adaptr.create(tiny.model(name), method, targets)


# ---------------------------------------------------------------- an encoder and its decoder


def whole(model: Any) -> Adapter:
    """A ladder that is all of a T5, given its norms and what its first blocks are given, and no rung at work."""
    adapter = adaptr.create(model, "ladder", reduction=1)
    tensors = {key: torch.zeros_like(tensor) for key, tensor in adapter.tensors.items() if key[-2:] in {":b", "_e"}}
    for path in adapter.targets:
        block = model.get_submodule(path)
        names = ("n_1", "n_c", "n_2") if len(block.layer) == 3 else ("n_1", "n_2")
        norms = [f"{path}:{name}" for name in names]
        tensors |= {key: part.layer_norm.weight.detach() for key, part in zip(norms, block.layer, strict=True)}
        tensors[f"{path}:mu"] = torch.full((1,), 100.0)
    tensors["encoder.block.1:n_3"] = model.encoder.final_layer_norm.weight.detach()
    eye = dict.fromkeys(("encoder.block.0:E_1", ":E", ":U"), torch.eye(32))
    return adapter.replace(tensors={**adapter.tensors, **tensors, **eye})


@pytest.mark.parametrize("name", ["t5", "t5-gated"])
def test_all_of_a_t5_as_its_ladder_is_that_t5(name: str) -> None:
    """Buckets of positions, no scale, both feed-forwards, attention to the encoder's side, padding, cached steps."""
    model, given = tiny.model(name), tiny.inputs(name)
    given = {**given, "attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3])}
    adapter = whole(model)
    said = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "num_beams": 3}
    ids = {key: given[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        wanted, texts = model(**given).logits, model.generate(**ids, **said)
        with adaptr.attach(model, adapter):
            assert_close(model(**given).logits, wanted)
            assert torch.equal(model.generate(**ids, **said), texts)


@pytest.mark.parametrize("name", ["t5", "bart"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_decoder_reads_its_encoders_side_whatever_becomes_of_both(name: str, beams: int) -> None:
    model, ids = tiny.model(name), tiny.inputs(name)["input_ids"]
    said = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "num_beams": beams}
    with torch.no_grad():
        before = model.get_encoder()(ids)
    with adaptr.attach(model, ladder(model)), torch.no_grad():
        assert torch.equal(model.generate(ids, **said), model.generate(ids, use_cache=False, **said))
        decoded = {"decoder_input_ids": ids[:, :3]}
        again = model(encoder_outputs=model.get_encoder()(ids), **decoded).logits
        assert_close(again, model(ids, **decoded).logits)
        with pytest.raises(errors.MissingContext, match="it ran without the adapter"):
            model(encoder_outputs=before, **decoded)


def test_the_encoders_side_learns_by_what_the_decoder_reads() -> None:
    model, given = tiny.model("t5"), tiny.inputs("t5")
    with adaptr.train(model, ladder(model)) as session:
        model(**given).logits.square().mean().backward()
        assert all(p.grad is not None and bool(p.grad.any()) for key, p in session.named().items() if key != ":b_e")


def test_far_tokens_have_t5s_buckets() -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    from adaptr_plugins.side import _relative

    for causal in (False, True):
        ahead = torch.arange(-300, 1 if causal else 300)
        wanted = T5Attention._relative_position_bucket(ahead, bidirectional=not causal)
        assert torch.equal(_relative.buckets(ahead, 32, causal), wanted)


def test_units_of_most_fisher_information_are_what_it_starts_as() -> None:
    """The squares of the gradients of two batches, by hand; the base learns nothing by it."""
    model, given = tiny.model("t5"), tiny.inputs("t5")
    batches = [{**given, "labels": given["decoder_input_ids"].roll(i, 1)} for i in range(2)]
    information: dict[str, Tensor] = {}
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
        for key, p in model.named_parameters():
            information[key] = information.get(key, torch.zeros_like(p)) + p.grad.square()
    model.zero_grad()
    stream = sum(one.sum(1) for key, one in information.items() if key.endswith((".o.weight", ".wo.weight")))
    kept = stream.topk(8).indices.sort().values
    inner = "encoder.block.0.layer.1.DenseReluDense"
    units = information[f"{inner}.wi.weight"].sum(1) + information[f"{inner}.wo.weight"].sum(0)
    adapter = adaptr.create(model, "ladder", reduction=4, init="fisher")
    with adaptr.train(model, adapter) as session:
        session.prepare([lambda batch=batch: (model(**batch).loss, None) for batch in batches])
        made = session.adapted().tensors["encoder.block.0:W"]
    wi = model.get_submodule(f"{inner}.wi").weight
    assert bits_equal(made, wi[units.topk(12).indices.sort().values][:, kept])
    assert not bits_equal(made, adapter.tensors["encoder.block.0:W"])
    assert all(p.grad is None for p in model.parameters())


# ---------------------------------------------------------------- attention fusion


def test_attention_fusion_is_the_mean_at_first_and_picks_where_its_query_is_large() -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    adapter = adaptr.create(model, "attention-fusion", norm=False)
    blocks = []
    hooks = [one.register_forward_hook(lambda _, __, out: blocks.append(out)) for one in model.model.layers]
    with torch.no_grad():
        model(ids)
        for hook in hooks:
            hook.remove()
        layers = torch.stack([model.model.embed_tokens(ids), *blocks])
        with adaptr.attach(model, adapter):
            assert_close(model(ids).logits, model.lm_head(model.model.norm(layers.mean(0))))
        q = torch.randn(32)
        for norm in (True, False):
            made = adaptr.create(model, "attention-fusion", norm=norm, tau=1e-4).replace(tensors={":q": q})
            score = (layer_norm(layers, (32,)) if norm else layers) @ q
            picked = layers.gather(0, score.argmax(0)[None, ..., None].expand(1, -1, -1, 32))[0]
            with adaptr.attach(model, made):
                assert float((model(ids).logits - model.lm_head(model.model.norm(picked))).abs().max()) < 1e-3


@pytest.mark.parametrize("depth", [0, 1, 10**9])
def test_a_ladder_that_counts_other_blocks_than_the_base_has_is_refused(depth: int) -> None:
    model = tiny.model("llama")
    made = ladder(model)
    wrong = {path: replace(t, config={**t.config, "depth": depth}) for path, t in made.targets.items()}
    with pytest.raises(errors.Unsupported, match=f"counts {depth} blocks in the base, which has 2"):
        adaptr.attach(model, made.replace(targets=wrong))
