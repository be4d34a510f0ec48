"""Inserted modules against naive forms of their papers' formulas, by hooks on the bare model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu, relu

import adaptr
import tiny
from adaptr import Target, plugins
from adaptr.errors import AdaptrError
from adaptr.testing import Driver, assert_close, count, logits, shaken
from adaptr_plugins.insert import _saliency as saliency
from methods.blocks import BLOCKS
from tiny import inputs

#: By architecture: a place behind a feed-forward, the module whose input is summed with it, and the norm of sums.
SUMS = {
    "llama": ("model.layers.0.mlp", "model.layers.0.post_attention_layernorm", ""),
    "gpt2": ("transformer.h.0.mlp.dropout", "transformer.h.0.ln_2", ""),
    "bert": ("bert.encoder.layer.0.output.dropout", "bert.encoder.layer.0.intermediate", "output.LayerNorm"),
    "distilbert": ("distilbert.transformer.layer.0.ffn", "distilbert.transformer.layer.0.ffn", "output_layer_norm"),
    "t5": ("encoder.block.0.layer.1.dropout", "encoder.block.0.layer.1", ""),
    "vit": ("vit.layers.0.mlp", "vit.layers.0.layernorm_after", ""),
    "whisper": ("model.encoder.layers.0.fc2", "model.encoder.layers.0.final_layer_norm", ""),
    "bart": ("model.encoder.layers.0.fc2", "model.encoder.layers.0.fc1", "final_layer_norm"),
}
Formula = Callable[[Tensor, Tensor], Tensor]


def hooked(name: str, path: str, reads: str, formula: Formula) -> Tensor:
    """The output of the bare model with formula(h, r) in the place of h, r the input of the module `reads`."""
    model, kept = tiny.model(name), []

    def read(module: Any, args: Any, kwargs: Any) -> None:
        kept.append(args[0] if args else next(iter(kwargs.values())))

    def put(module: Any, args: Any, output: Any) -> Any:
        y = formula(output[0] if isinstance(output, tuple) else output, kept[-1])
        return (y, *output[1:]) if isinstance(output, tuple) else y

    model.get_submodule(reads).register_forward_pre_hook(read, with_kwargs=True)
    model.get_submodule(path).register_forward_hook(put)
    with torch.no_grad():
        return logits(model(**inputs(name)))


def adapted(name: str, adapter: adaptr.Adapter) -> Tensor:
    model = tiny.model(name)
    with adaptr.attach(model, adapter), torch.no_grad():
        return logits(model(**inputs(name)))


def made(name: str, method: str, path: str, **config: Any) -> tuple[adaptr.Adapter, dict[str, Tensor]]:
    adapter = shaken(adaptr.create(tiny.model(name), method, [path], **config), 1, 0.3)
    return adapter, dict(adapter.at(path))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", SUMS)
def test_pfeiffer_reads_the_normed_sum_where_there_is_one(name: str, residual: bool) -> None:
    path, reads, norm = SUMS[name]
    layer = path.rpartition(".")[0] if norm == "output_layer_norm" else path.rpartition(".output.")[0] or path[:-4]
    adapter, p = made(name, "pfeiffer", path, m=4, **({"residual": True} if residual else {}))

    def formula(h: Tensor, r: Tensor) -> Tensor:
        z = h + r if norm or residual else h
        z = tiny.model(name).get_submodule(f"{layer}.{norm}")(z) if norm else z
        return h + relu(z @ p["D"].T + p["b_d"]) @ p["U"].T + p["b_u"]

    assert_close(adapted(name, adapter), hooked(name, path, reads, formula))


@pytest.mark.parametrize("called", ["bert.encoder", "bert.encoder.layer.0.output.nothing"])
def test_what_an_adapter_calls_is_a_layer_that_is_there(called: str) -> None:
    model = tiny.model("bert")
    adapter = adaptr.create(model, "pfeiffer", [SUMS["bert"][0]], m=4, calls=called)
    with pytest.raises(AdaptrError, match=rf"`{called}`"):
        adaptr.attach(model, adapter)
    assert "adapters" not in dict(model.named_modules())


def test_pfeiffer_adapters_on_one_another_read_what_the_one_before_made() -> None:
    path, reads, _ = SUMS["bert"]
    norm = tiny.model("bert").get_submodule("bert.encoder.layer.0.output.LayerNorm")
    (one, p), (two, q) = made("bert", "pfeiffer", path, m=4), made("bert", "pfeiffer", path, m=3)
    model = tiny.model("bert")

    def formula(h: Tensor, r: Tensor) -> Tensor:
        for t in (p, q):
            h = h + relu(norm(h + r) @ t["D"].T + t["b_d"]) @ t["U"].T + t["b_u"]
        return h

    with adaptr.attach(model, one), adaptr.attach(model, two), torch.no_grad():
        assert_close(logits(model(**inputs("bert"))), hooked("bert", path, reads, formula))


def test_a_residual_that_is_not_known_is_asked_for() -> None:
    with pytest.raises(AdaptrError, match=r"is not known; say the module whose input it is \(`reads`\)"):
        adaptr.create(tiny.model("llama"), "pfeiffer", ["attn_out"], residual=True)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("name", BLOCKS)
def test_lin_norms_what_a_block_puts_out(name: str, norm: str) -> None:
    path = BLOCKS[name]
    adapter, p = made(name, "lin", path, m=4, norm=norm)

    def formula(h: Tensor, r: Tensor) -> Tensor:
        z = h - h.mean(-1, keepdim=True) if norm == "layer" else h
        z = z / (z.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * p["g"] + p.get("c", 0)
        return h + relu(z @ p["D"].T + p["b_d"]) @ p["U"].T + p["b_u"]

    assert_close(adapted(name, adapter), hooked(name, path, path, formula))


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
@pytest.mark.parametrize("method", ["phm", "compacter", "compacter-pp"])
def test_hypercomplex_projections_are_sums_of_kronecker_products(method: str, name: str) -> None:
    path = SUMS[name][0]
    adapter, p = made(name, method, path, m=8, n=4, activation="gelu")

    def projected(x: Tensor, side: str) -> Tensor:
        A = p["A"] if "A" in p else p[f"A_{side}"]
        B = p[f"s_{side}"] @ p[f"t_{side}"] if "A" in p else p[f"B_{side}"]
        H = torch.stack([torch.kron(a, b) for a, b in zip(A, B, strict=True)]).sum(0)
        return x @ H + p[f"b_{side}"]

    assert_close(
        adapted(name, adapter), hooked(name, path, path, lambda h, r: h + projected(gelu(projected(h, "d")), "u"))
    )


def test_compacters_rules_are_one_tensor_that_learns_at_all_places() -> None:
    model = tiny.model("bert").train()
    adapter = adaptr.create(model, "compacter", m=8, n=4)
    assert next(iter(adapter.tensors)) == ":A"
    with adaptr.train(model, adapter) as session:
        logits(model(**inputs("bert"))).square().mean().backward()
        assert len({id(state["A"]) for state in session.states.values()}) == 1
        assert session.named()[":A"].grad.abs().max() > 0


@pytest.mark.parametrize(("field", "value"), [("n", 5), ("m", 6)])
def test_sizes_that_n_does_not_divide_are_refused(field: str, value: int) -> None:
    with pytest.raises(AdaptrError, match="a multiple of `n`"):
        adaptr.create(tiny.model("bert"), "compacter", **{"m": 8, "n": 4, field: value})


# ---------------------------------------------------------------- SparseAdapter


def scored(kind: str) -> dict[str, Tensor]:
    """Scores of each weight, by a forward with the adapter's tensors as leaves of a graph."""
    model, adapter = tiny.model("bert"), sparse(kind)
    leaves = {key: t.clone().requires_grad_() for key, t in adapter.tensors.items() if key[-2:] in {":D", ":U"}}
    if kind == "magnitude":
        return {key: w.detach().abs() for key, w in leaves.items()}
    with adaptr.train(model, adapter) as session:
        own, found = session.named(), []
        for batch in BATCHES:
            g = torch.autograd.grad(loss(model.eval()(**batch)), [own[key] for key in leaves])
            found.append(g)
        mean = [sum(gs) / len(BATCHES) for gs in zip(*found, strict=True)]
        return {key: (w * g).abs().detach() for (key, w), g in zip(leaves.items(), mean, strict=True)}


BATCHES = [{"input_ids": torch.arange(3, 11)[None]}, {"input_ids": torch.arange(20, 29)[None]}]


def loss(output: Any, batch: Any = None) -> Tensor:
    return cross_entropy(output.logits, torch.tensor([1]))


def sparse(score: str, **config: Any) -> adaptr.Adapter:
    return adaptr.create(tiny.model("bert"), "sparse-adapter", m=4, score=score, **config)


@pytest.mark.parametrize("score", ["snip", "grasp", "magnitude", "random"])
def test_what_is_pruned_is_zero_from_first_to_last_and_the_share_is_exact(score: str) -> None:
    model = tiny.model("bert").train()
    with adaptr.train(model, sparse(score)) as session:
        Driver(session, BATCHES, 10, loss).fit()
        masks = {key: m for key, m in session.memory.items() if key.endswith(".mask")}
        assert sum(int(m.sum()) for m in masks.values()) == round(0.6 * 4 * 4 * 32)
        assert all(not bool(session.named()[key[:-5]][~mask].any()) for key, mask in masks.items())
        finished = session.finish()
        with torch.no_grad():
            wanted = logits(model.eval()(**BATCHES[0]))
    kept = sum(t.numel() for key, t in finished.tensors.items() if key.endswith(":w"))
    assert kept == round(0.6 * 4 * 4 * 32)
    assert count(finished) == kept + 2 * (32 + 4)
    with adaptr.attach(model, finished), torch.no_grad():
        assert_close(logits(model(**BATCHES[0])), wanted)


@pytest.mark.parametrize("score", ["snip", "magnitude"])
def test_the_weights_that_are_left_have_the_largest_scores(score: str) -> None:
    wanted = scored(score)
    model = tiny.model("bert").train()
    with adaptr.train(model, sparse(score)) as session:
        session.prepare(lambda batch=batch: (loss(out := model(**batch)), out) for batch in BATCHES)
        masks = {key: session.memory[f"{key}.mask"] for key in wanted}
    left = torch.cat([wanted[key][masks[key]] for key in wanted])
    gone = torch.cat([wanted[key][~masks[key]] for key in wanted])
    assert left.min() >= gone.max() - 1e-9


def test_grasps_score_is_the_weight_times_the_hessian_times_the_gradient() -> None:
    A = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    found = saliency.scores("grasp", {"w": w}, [lambda: (w @ A @ w / 2, None)], 0)["w"]
    assert_close(found, (w * (A @ A @ w)).detach())


def test_scores_that_would_vanish_are_refused() -> None:
    with pytest.raises(AdaptrError, match="scores vanish where U starts at zero"):
        sparse("snip", init="zero_up")
    assert sparse("random", init="zero_up").config["score"] == "random"


def test_the_studys_count_of_what_is_left_on_a_bert() -> None:
    left = round(0.6 * 12 * 2 * 48 * 768)
    config = {"m": 48, "finished": True}
    places = [Target("x", "module", (768,), {**config, "n": left // 12 + (i < left % 12)}) for i in range(12)]
    assert sum(map(plugins.method("sparse-adapter").count, places)) == 540_634


def test_bits_that_say_other_weights_than_there_are_are_refused() -> None:
    model = tiny.model("bert")
    with adaptr.train(model, sparse("random")) as session:
        session.prepare()
        finished = session.finish()
    key = next(key for key in finished.tensors if key.endswith(":bits"))
    broken = finished.replace(tensors={**finished.tensors, key: torch.zeros_like(finished.tensors[key])})
    with adaptr.attach(model, broken), pytest.raises(AdaptrError, match="as many as weights are left"):
        model(**BATCHES[0])
