"""Gates against naive loops and PEFT; in a stack, and in training."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import linear, softmax

import adaptr
import tiny
from adaptr.testing import assert_close, bits_equal, logits
from runtime.gates import expert, gate, out, summed

VARIANTS: list[dict[str, Any]] = [
    {},
    {"layerwise": False},
    {"depth": 2, "size": 8},
    {"depth": 4, "size": 8, "temperature": 0.5},
    {"top_k": 2, "scale": 1.5},
    {"top_k": 1, "softmax_topk": True},
    {"softmax": False},
    {"probe": 0.25},
]


def by_hand(base: Any, gate: adaptr.Adapter) -> Any:
    """The weights that the paper's classifier gives, in plain steps on the base's own hidden states."""
    cfg, t = gate.config, {k[1:]: v for k, v in gate.tensors.items() if k.startswith(":") and "." not in k}
    if cfg["probe"]:
        base = copy.deepcopy(base)
        for name in cfg["experts"]:
            adaptr.attach(base, gate.part(name), cfg["probe"])
    z = base.model(**tiny.inputs("llama")).last_hidden_state
    if cfg["depth"] > 1:
        z = linear(z, t["W_in"], t["b_in"]).clamp(min=0)
        for W, b in zip(t.get("W_h", []), t.get("b_h", []), strict=True):
            z = linear(z, W, b).clamp(min=0)
    n = len(cfg["experts"])
    z = linear(z, t["W"], t["b"]).view(*z.shape[:2], -1, n)

    def weight(path: str, x: torch.Tensor) -> torch.Tensor:
        s = z[:, :, cfg["sites"].index(path) if cfg["layerwise"] else 0]
        s = softmax(s / cfg["temperature"], -1) if cfg["softmax"] else s
        if cfg["top_k"]:
            least = s.sort(-1, descending=True).values[..., cfg["top_k"] - 1, None]
            kept = s >= least
            s = softmax(s.masked_fill(~kept, -torch.inf), -1) if cfg["softmax_topk"] else s * kept
        return cfg["scale"] * s

    return weight


@torch.no_grad()
@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_xlora_is_a_plain_loop_over_tokens_and_experts(config: dict[str, Any]) -> None:
    model = tiny.model("llama")
    made = gate(model, **config)
    wanted = summed(model, made, by_hand(model, made))
    assert float((wanted - out(model)).abs().max()) > 1e-3
    with adaptr.attach(model, made):
        assert_close(out(model), wanted)
        with torch.inference_mode():
            assert_close(logits(model(**tiny.inputs("llama"))), wanted)
        with torch.enable_grad():
            assert_close(logits(model(**tiny.inputs("llama"))).detach(), wanted)


def test_a_constant_gate_is_the_weighted_sum() -> None:
    model = tiny.model("llama")
    made = gate(model, layerwise=False)
    b = torch.tensor([0.3, -1.0, 0.7])
    made = made.replace(tensors={**made.tensors, ":W": torch.zeros_like(made.tensors[":W"]), ":b": b})
    s = softmax(b, -1).tolist()
    for strength in (1.0, 0.5):
        with adaptr.stack(model, {n: (made.part(n), strength * w) for n, w in zip("abc", s, strict=True)}):
            wanted = out(model)
        with adaptr.attach(model, made, strength):
            assert_close(out(model), wanted)


def test_the_pass_before_is_the_base_itself() -> None:
    model = tiny.model("llama")
    seen = []
    with adaptr.attach(model, gate(model)):
        from adaptr import plugins

        real = type(plugins.method("xlora")).scalings
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                type(plugins.method("xlora")), "scalings", lambda s, h, p, c: (seen.append(h), real(s, h, p, c))[1]
            )
            out(model)
    bare = tiny.model("llama")
    assert bits_equal(bare.lm_head(seen[0]).detach(), out(bare))


def peft_twin(model: Any, made: adaptr.Adapter, folder: Path) -> Any:
    """The same gate in PEFT, whose experts must be called "0", "1", ..."""
    from peft import XLoraConfig, get_peft_model

    paths = {}
    for name in made.config["experts"]:
        adaptr.save(made.part(name).replace(name=name), folder / f"{name}.safetensors")
        adaptr.convert(folder / f"{name}.safetensors", folder / name, to="peft")
        paths[str(len(paths))] = str(folder / name)
    cfg = made.config
    config = XLoraConfig(
        task_type="CAUSAL_LM", hidden_size=32, adapters=paths, xlora_depth=cfg["depth"], xlora_size=cfg["size"],
        layerwise_scalings=cfg["layerwise"], softmax_temperature=cfg["temperature"], top_k_lora=cfg["top_k"] or None,
        enable_softmax_topk=cfg["softmax_topk"], global_scaling_weight=cfg["scale"],
    )  # fmt: skip
    model.config.use_cache = False
    twin = get_peft_model(model, config).eval()
    layers = [m for m in twin.base_model.internal_xlora_classifier.layers if isinstance(m, torch.nn.Linear)]
    own = [(made.tensors[":W"], made.tensors[":b"])]
    if cfg["depth"] > 1:
        hidden = zip(made.tensors.get(":W_h", []), made.tensors.get(":b_h", []), strict=True)
        own = [(made.tensors[":W_in"], made.tensors[":b_in"]), *hidden, *own]
    for layer, (W, b) in zip(layers, own, strict=True):
        layer.weight.data, layer.bias.data = W, b
    return twin


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"layerwise": False, "depth": 3, "size": 8},
        {"top_k": 2, "scale": 1.5},
        {"top_k": 2, "softmax_topk": True, "softmax": True},
    ],
    ids=str,
)
def test_xlora_is_pefts_where_that_works(config: dict[str, Any], tmp_path: Path) -> None:
    model = tiny.model("llama")
    made = gate(model, children={n: expert(model, i, r=4, alpha=8.0) for i, n in enumerate("abc", 1)}, **config)
    twin = peft_twin(tiny.model("llama"), made, tmp_path)
    order = [path.rpartition("model.layers")[2] for path, m in twin.named_modules() if hasattr(m, "lora_A")]
    assert order == [path.rpartition("model.layers")[2] for path in made.config["sites"]]
    with adaptr.attach(model, made):
        assert_close(out(model), out(twin))


def test_arrow_routes_by_the_directions_that_the_experts_stretch_most() -> None:
    model = tiny.model("llama")
    made = gate(model, "arrow", top_k=2, temperature=0.7)

    def weight(path: str, x: torch.Tensor) -> torch.Tensor:
        parts = [made.part(name) for name in "abc"]
        likeness = torch.full((*x.shape[:2], 3), -torch.inf)
        for i, part in enumerate(parts):
            if path in part.targets:
                first = torch.linalg.svd(part[path].dense(torch.float64)).Vh[0].float()
                likeness[..., i] = (x @ first).abs()
        least = likeness.sort(-1, descending=True).values[..., 1, None]
        return softmax(likeness.masked_fill(likeness < least, -torch.inf) / 0.7, -1)

    with torch.no_grad():
        wanted = summed(model, made, weight)
    with adaptr.attach(model, made):
        assert_close(out(model), wanted)


def test_a_gate_in_a_stack_is_switched_and_weighed() -> None:
    model = tiny.model("llama")
    made, lora = gate(model), expert(model, 7, targets=["mlp.down"])
    with adaptr.attach(model, made, 0.5), adaptr.attach(model, lora):
        wanted = out(model)
    with adaptr.stack(model, {"gate": (made, 0.5), "lora": lora}) as stack:
        assert_close(out(model), wanted)
        stack.off("gate")
        with adaptr.attach(tiny.model("llama"), lora) as alone:
            assert_close(out(model), out(alone.model))
        stack.on("gate")
        assert_close(out(model), wanted)


@pytest.mark.parametrize("config", [{}, {"depth": 3, "size": 16, "layerwise": False}], ids=str)
def test_training_with_recomputed_layers_gives_the_same_gradients(config: dict[str, Any]) -> None:
    found = []
    for recompute in (False, True):
        model = tiny.model("llama").train()
        if recompute:
            model.activation_checkpointing_enable({"use_reentrant": False})
        with adaptr.train(model, gate(model, dropout=0.0, **config)) as session:
            model(**tiny.inputs("llama"), use_cache=False).logits.square().mean().backward()
            found.append({i: p.grad.clone() for i, p in enumerate(session.parameters())})
            assert not any(p.requires_grad for n, p in model.named_parameters() if ".law." in n or ".experts." in n)
    for i, one in found[0].items():
        assert float(one.abs().max()) > 0
        assert_close(found[1][i], one)
