"""Gates against naive loops, PEFT and themselves without a cache; refused where they are not whole."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import linear, softmax

import adaptr
import tiny
from adaptr.errors import (
    AlreadyAttached,
    BadConfig,
    DigestMismatch,
    NotMergeable,
    NotPossible,
    TensorMissing,
    Unsupported,
    UsageError,
)
from adaptr.testing import assert_close, bits_equal, logits, shaken

TARGETS = ["attn.q", "attn.v", "mlp.down"]
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


def expert(model: Any, seed: int, method: str = "lora", targets: Any = TARGETS, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, targets, seed=seed, **(config or {"r": 1 + seed})), seed)


def three(model: Any) -> dict[str, adaptr.Adapter]:
    return {
        "a": expert(model, 1),
        "b": expert(model, 2, "loha", r=2),
        "c": expert(model, 3, targets=["attn.q", "mlp.up"]),
    }


def gate(model: Any, method: str = "xlora", children: Any = None, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, children=children or three(model), **config), 9, 0.5)


def out(model: Any, name: str = "llama", **more: Any) -> torch.Tensor:
    with torch.no_grad():
        return logits(model(**tiny.inputs(name), **more)).clone()


def summed(model: Any, gate: adaptr.Adapter, weight: Any) -> torch.Tensor:
    """The output where each layer adds Σ s_i D_i x in a plain loop over tokens and experts; `weight(path, x)` gives s
    (batch, tokens, n)."""
    twin, hooks = copy.deepcopy(model), []
    parts = [gate.part(name) for name in gate.config["experts"]]
    for path in {path for part in parts for path in part.targets}:

        def after(module: Any, args: Any, y: torch.Tensor, path: str = path) -> torch.Tensor:
            (x,) = args
            s, y = weight(path, x), y.clone()
            for b in range(x.shape[0]):
                for t in range(x.shape[1]):
                    for i, part in enumerate(parts):
                        if path in part.targets:
                            y[b, t] += s[b, t, i] * (part[path].dense() @ x[b, t])
            return y

        hooks.append(twin.get_submodule(path).register_forward_hook(after))
    return out(twin)


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


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"cache_implementation": "static"}, {"do_sample": True, "num_return_sequences": 3}],
    ids=str,
)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral", "gemma3"])
def test_with_a_cache_it_says_the_same(architecture: str, options: dict[str, Any]) -> None:
    if architecture == "gpt2" and "cache_implementation" in options:
        pytest.skip("GPT-2 in transformers has no static cache of its own")
    model = tiny.model(architecture)
    model.generation_config.eos_token_id = None
    children = {n: expert(model, i, targets=["attn.o", "mlp.down"], r=3) for i, n in enumerate("ab", 1)}
    ids = torch.tensor([[5, 9, 11, 3, 7], [8, 4, 6, 12, 9]])
    mask = torch.ones_like(ids)
    with adaptr.attach(model, gate(model, children=children)):

        def generate(**more: Any) -> torch.Tensor:
            torch.manual_seed(0)
            given = {"attention_mask": mask, "max_new_tokens": 12, "min_new_tokens": 12, **options, **more}
            return model.generate(ids, **given)

        with_cache = generate(use_cache=True)
        options = {k: v for k, v in options.items() if k != "cache_implementation"}
        assert torch.equal(with_cache, generate(use_cache=False))
    assert not torch.equal(with_cache, model.generate(ids, attention_mask=mask, max_new_tokens=12, min_new_tokens=12))


def test_a_cache_that_goes_back_goes_back_for_both() -> None:
    model = tiny.model("llama")
    ids = tiny.inputs("llama")["input_ids"]
    with torch.no_grad(), adaptr.attach(model, gate(model)):
        whole = model(ids, use_cache=False).logits
        first = model(ids[:, :4])  # the model makes the cache
        cache = copy.deepcopy(first.past_key_values)
        model(torch.full_like(ids[:, :2], 9), past_key_values=cache)
        cache.crop(-2)
        rest = model(ids[:, 4:], past_key_values=cache).logits
        assert_close(torch.cat([first.logits, rest], dim=1), whole)


def test_a_cache_that_the_gate_has_not_seen_is_refused() -> None:
    model = tiny.model("llama")
    ids = tiny.inputs("llama")["input_ids"]
    cache = model(ids[:, :4]).past_key_values
    with adaptr.attach(model, gate(model)), pytest.raises(Unsupported, match="4 tokens that this gate has not seen"):
        model(ids[:, 4:], past_key_values=cache)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("method", ["xlora", "arrow", "lora-soups"])
def test_padding_changes_nothing(side: str, method: str) -> None:
    model = tiny.model("llama")
    ids = tiny.inputs("llama")["input_ids"]
    with torch.no_grad(), adaptr.attach(model, gate(model, method)):
        alone = model(ids[:1, :4]).logits[0]
        padding = torch.zeros(3, dtype=torch.long)
        row = torch.cat([padding, ids[0, :4]] if side == "left" else [ids[0, :4], padding])
        batch = torch.stack([row, ids[1]])
        mask = (torch.arange(7) >= 3 if side == "left" else torch.arange(7) < 4).long()
        mask = torch.stack([mask, torch.ones(7, dtype=torch.long)])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        found = model(batch, attention_mask=mask, position_ids=positions).logits[0]
        assert_close(found[3:] if side == "left" else found[:4], alone)


@pytest.mark.parametrize("method", ["xlora", "arrow", "lora-soups"])
def test_saved_with_its_experts_it_says_the_same(method: str, tmp_path: Path) -> None:
    model = tiny.model("llama")
    made = gate(model, method)
    adaptr.save(made, tmp_path / "gate.safetensors")
    loaded = adaptr.load(tmp_path / "gate.safetensors")
    assert [p["name"] for p in loaded.lineage["parents"]] == ["a", "b", "c"]
    assert all(part.digest.startswith("sha256:") for part in loaded.parts.values())
    with adaptr.attach(model, made):
        wanted = out(model)
    with adaptr.attach(model, loaded):
        assert bits_equal(out(model), wanted)


def test_without_an_expert_or_with_another_it_is_refused(tmp_path: Path) -> None:
    model = tiny.model("llama")
    made = gate(model)
    key = next(k for k in made.tensors if k.endswith(":b.w1_a"))
    file = tmp_path / "gate.safetensors"
    adaptr.save(made.replace(tensors={**made.tensors, key: made.tensors[key] + 1}), file)
    with pytest.raises(DigestMismatch, match="its part `b`"):
        adaptr.load(file)
    for lost in (key, ":W"):
        with pytest.raises(TensorMissing):
            adaptr.save(made.replace(tensors={k: v for k, v in made.tensors.items() if k != lost}), file, force=True)


def test_what_is_no_delta_is_no_expert() -> None:
    model, a = tiny.model("llama"), expert(tiny.model("llama"), 1)
    whole = a.replace(tensors={**a.tensors, "model.norm.weight:=": torch.ones(32)})
    for child, error, words in (
        (expert(model, 2, "dora"), Unsupported, "weighs deltas"),
        (adaptr.create(model, "houlsby", m=4), Unsupported, "weighs deltas"),
        (whole, NotPossible, "as a whole"),
    ):
        with pytest.raises(error, match=words):
            adaptr.create(model, "xlora", children={"a": a, "b": child})
    other = tiny.model("t5")
    two = adaptr.create(other, "xlora", children={"a": expert(other, 1, targets=["attn.o"])})
    with pytest.raises(Unsupported, match="encoder-decoder"):
        adaptr.attach(other, two)
    with pytest.raises(UsageError, match="give them as"):
        adaptr.create(model, "xlora")
    with pytest.raises(UsageError, match="made of no other"):
        adaptr.create(model, "lora", children={"a": a})
    with pytest.raises(UsageError, match="given twice"):
        adaptr.create(model, "arrow", children={"a": a, "b": a})
    for config in ({"depth": 0}, {"temperature": 0.0}, {"top_k": 3}, {"dropout": 1.0}):
        with pytest.raises(BadConfig):
            adaptr.create(model, "xlora", children={"a": a}, **config)


def test_a_layer_called_outside_of_its_model_has_no_weights() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, gate(model)), pytest.raises(Unsupported, match="outside of its model"):
        model.model.layers[0].self_attn.q_proj(torch.ones(1, 2, 32))


def test_two_gates_with_a_pass_are_refused_and_leave_the_first() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, gate(model)):
        wanted = out(model)
        with pytest.raises(AlreadyAttached, match="a gate on this model already"):
            adaptr.attach(model, gate(model, children={"z": expert(model, 5)}))
        assert bits_equal(out(model), wanted)


def test_a_gate_has_no_weight_of_its_own(tmp_path: Path) -> None:
    model = tiny.model("llama")
    model.save_pretrained(tmp_path / "base")
    for method in ("xlora", "arrow"):
        adaptr.save(gate(model, method), tmp_path / f"{method}.safetensors")
        with pytest.raises(NotMergeable, match="lora-soups"):
            adaptr.merge(tmp_path / "base", [tmp_path / f"{method}.safetensors"], tmp_path / "out")


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


def test_soups_are_a_plain_delta(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny.model("llama")
    model.save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    made = gate(model, "lora-soups")
    file, plain = tmp_path / "soup.safetensors", tmp_path / "plain.safetensors"
    adaptr.save(made, file)
    with adaptr.attach(model, made):
        wanted = out(model)
    adaptr.merge(tmp_path / "base", [file], tmp_path / "merged")
    assert_close(out(AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()), wanted)
    report = adaptr.convert_method(file, plain, "lora")
    assert report.error < 1e-6
    exported = adaptr.load(plain)
    assert (exported.method, exported.parts) == ("lora", {})
    with adaptr.attach(model, exported):
        assert_close(out(model), wanted)


def test_soups_are_taken_out_of_a_checkpoint_again(tmp_path: Path) -> None:
    base, file = tmp_path / "base", tmp_path / "soup.safetensors"
    tiny.model("llama").save_pretrained(base)
    adaptr.save(gate(tiny.model("llama"), "lora-soups"), file)
    adaptr.merge(base, [file], tmp_path / "merged")
    assert adaptr.verify(tmp_path / "merged", base, [file]).exact
    adaptr.unmerge(tmp_path / "merged", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


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


def test_a_trained_gate_keeps_its_experts_as_they_were(tmp_path: Path) -> None:
    model = tiny.model("llama")
    made = gate(model)
    with adaptr.train(model, made) as session:
        optimiser = torch.optim.Adam(session.parameters(), lr=0.1)
        model(**tiny.inputs("llama")).logits.square().mean().backward()
        optimiser.step()
        trained = session.adapted()
    changed = {k for k in made.tensors if not bits_equal(made.tensors[k], trained.tensors[k])}
    assert changed == {":W", ":b"}
    adaptr.save(trained, tmp_path / "gate.safetensors")
    adaptr.load(tmp_path / "gate.safetensors")
