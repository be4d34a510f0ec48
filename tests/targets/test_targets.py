"""Roles and places on thirty architectures, pinned for the first layer; patterns, overrides, and errors that help."""

from __future__ import annotations

import pytest

import adaptr
import tiny
from adaptr import errors, roles, targets
from adaptr.adapter import kinds
from targets.pinned import OUTSIDE, PINNED

LAYERS = kinds.MATRIX | {"norm"}


def found(name: str, role: str, layer: str = "") -> list[str] | None:
    kinds = {"attention"} if role == "attention" else {"module"} if role in roles.PLACES else LAYERS
    try:
        paths = [t.path for t in targets.resolve(tiny.shell(name), role, kinds)]
    except errors.TargetNotFound:
        return None
    return [p for p in paths if p.startswith(f"{layer}." if layer else "")]


@pytest.mark.parametrize(("name", "layer", "pinned"), PINNED, ids=[f"{n}-{layer}" for n, layer, _ in PINNED])
def test_the_first_layer(name: str, layer: str, pinned: dict[str, str]) -> None:
    assert layer in (found(name, "block_out") or [])
    for role in [*roles.ROLES, *roles.PLACES, "attention"]:
        if role in {"embed", "head", "block_out"}:
            continue
        wanted = [
            f"{layer}.{p}" for p in pinned.get(role, "").replace(" < ", "<").split() for p in [p.partition("<")[0]]
        ]
        assert sorted(found(name, role, layer) or []) == sorted(wanted), role
    place, _, source = pinned["ffn_out"].partition(" < ")
    assert roles.ffn_input(f"{layer}.{place}") == (f"{layer}.{source}" if source else "")


@pytest.mark.parametrize("name", OUTSIDE)
def test_embeddings_and_heads_and_all_linear(name: str) -> None:
    embed, head = OUTSIDE[name]
    assert found(name, "embed") == (embed and embed.split())
    assert found(name, "head") == (head and head.split())
    linear = found(name, "all-linear") or []
    assert not set(linear) & set((head or "").split())
    layers = {n for p in PINNED if p[0] == name for r, ns in p[2].items() for n in ns.split() if r.startswith("attn.")}
    assert all(any(path.endswith(suffix) for path in linear) for suffix in layers if name not in {"mixtral"})


@pytest.mark.parametrize(("name", "sizes"), [("llama", {(2, 8)}), ("gpt2", {(4, 8)}), ("clip", {(4, 8), (2, 8)})])
def test_attentions_have_their_own_sizes(name: str, sizes: set[tuple[int, int]]) -> None:
    assert {t.shape for t in targets.resolve(tiny.shell(name), "attention", {"attention"})} == sizes


def test_places_of_two_towers_have_their_own_widths() -> None:
    shapes = {t.path.split(".")[0]: t.shape for t in targets.resolve(tiny.shell("clip"), "ffn_out", {"module"})}
    assert shapes == {"text_model": (32,), "vision_model": (16,)}


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("q_proj", 2),
        ("self_attn.q_proj", 2),
        ("model.layers.1.self_attn.q_proj", 1),
        ("*.layers.[1-9].*", 7),
        ("re:.*layers\\.0\\..*_proj", 7),
        ("type:linear", 15),
        ("type:Linear", 15),
        ("type:LlamaRMSNorm", 5),
        ("attn.qkv|attn.q", 2),
        ("attn.q@1-5", 1),
        ("attn.qkv@0-1|attn.q@0-1", 2),
    ],
)
def test_patterns(word: str, count: int) -> None:
    model = tiny.shell("llama")
    matrices = kinds.MATRIX if count in {7} else LAYERS
    assert len(targets.resolve(model, word, matrices)) == count


def test_several_words_come_in_the_models_order_without_repeats() -> None:
    model = tiny.shell("llama")
    paths = [t.path for t in targets.resolve(model, ["v_proj", "q_proj", "attn.q"], LAYERS)]
    assert [p.rpartition(".")[2] for p in paths] == ["q_proj", "v_proj"] * 2


def test_types_are_found_under_an_adapter() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, adaptr.create(model, "lora")):
        assert len(targets.resolve(model, "type:Linear", LAYERS)) == 15


@pytest.mark.parametrize(
    ("word", "near"),
    [("q_prj", "`q_proj`"), ("attn.qq", "`attn.q`"), ("proj", "q_proj"), ("re:q_proj", "candidates")],
)
def test_a_word_that_matches_nothing_says_what_is_near(word: str, near: str) -> None:
    with pytest.raises(errors.TargetNotFound, match=f"`{word}` matches none of the 21 candidates") as caught:
        targets.resolve(tiny.shell("llama"), ["q_proj", word], LAYERS)
    assert near in str(caught.value)


def test_a_kind_the_model_has_not_is_named() -> None:
    with pytest.raises(errors.TargetNotFound, match="no conv2d at all"):
        targets.resolve(tiny.shell("llama"), "q_proj", {"conv2d"})


def test_overrides_by_pattern_and_the_later_wins() -> None:
    model = tiny.model("llama")
    adapter = adaptr.create(
        model, "lora", ["attn.q", "attn.v"], r=4, overrides={"*.layers.1.*": {"r": 2}, "v_proj": {"alpha": 1.0}}
    )
    rank = {path: t.config["r"] for path, t in adapter.targets.items()}
    assert list(rank.values()) == [4, 4, 2, 2]
    assert adapter.tensors["model.layers.1.self_attn.q_proj:A"].shape == (2, 32)
    assert {t.config["alpha"] for p, t in adapter.targets.items() if p.endswith("v_proj")} == {1.0}
    with pytest.raises(errors.BadConfig, match="no field `rank`"):
        adaptr.create(model, "lora", overrides={"q_proj": {"rank": 4}})


@pytest.mark.parametrize(
    ("method", "config", "words"),
    [
        ("lora", {"r": 0}, "`r` is 0"),
        ("lora", {"r": "8"}, "`r` is '8', wanted int"),
        ("lora", {"alpha": float("nan")}, "`alpha` is nan"),
        ("lora", {"dropout": 1.0}, "`dropout` is 1.0"),
        ("houlsby", {"activation": "sine"}, "`activation` is 'sine'"),
        ("prefix", {"tokens": -1}, "`tokens` is -1"),
    ],
)
def test_configurations_out_of_range_are_refused(method: str, config: dict[str, object], words: str) -> None:
    with pytest.raises(errors.BadConfig, match=words):
        adaptr.create(tiny.model("llama"), method, **config)


@pytest.mark.parametrize(("kind", "word"), [("llama", "attn.q"), ("gpt2", "*.1.attn.c_attn"), ("bert", "self.value")])
def test_what_goes_into_attentions_goes_up_to_them(kind: str, word: str) -> None:
    """Found in 0.1.0: a prefix was made at the layer itself, and only `attach` refused it."""
    model = tiny.model(kind)
    adapter = adaptr.create(model, "prefix", word, tokens=2)
    every = adaptr.create(model, "prefix", tokens=2).targets
    assert adapter.targets
    assert all(every[path] == target for path, target in adapter.targets.items())
    assert len(adapter.targets) == (1 if word.startswith("*") else len(every))
    adaptr.attach(model, adapter).detach()


@pytest.mark.parametrize("method", ["prefix", "cartridge", "llama-adapter"])
def test_what_is_in_no_attention_is_refused_with_what_there_is(method: str) -> None:
    with pytest.raises(errors.TargetNotFound, match=r"none of which is an attention.*self_attn"):
        adaptr.create(tiny.model("llama"), method, "mlp.up")


def test_what_matches_nothing_is_not_proposed_for_itself() -> None:
    """Mixtral's experts are a stack: a method of plain layers finds no `mlp.down`."""
    with pytest.raises(errors.TargetNotFound, match="matches none") as caught:
        adaptr.create(tiny.model("mixtral"), "ia3", ["mlp.down"])
    assert "did you mean `mlp.down`" not in str(caught.value)


def test_fused_projections_of_modules_called_self_attn_and_mlp() -> None:
    assert roles.has("model.layers.0.self_attn.qkv_proj", "attn.qkv")
    assert roles.has("model.layers.0.mlp.gate_up_proj", "mlp.gate")
    assert roles.has("model.layers.0.mlp.gate_up_proj", "mlp.up")
