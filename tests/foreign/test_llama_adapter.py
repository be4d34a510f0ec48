"""LLaMA-Adapter's own files, made here as its code names and uses them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign
from adaptr.adapter import REPLACED

TOKENS = 3


def saved(place: Path, tensors: dict[str, Tensor], inside: bool = False) -> Path:
    torch.save({"model": tensors, "epoch": 1} if inside else tensors, place / "adapter.pth")
    return place / "adapter.pth"


def prompts(layers: tuple[int, ...] = (0, 1), used: int = 2, heads: int = 4, width: int = 32) -> dict[str, Tensor]:
    """A file with a gate for each of `layers`, of which the last `used` are trained."""
    torch.manual_seed(0)
    gates = {f"layers.{i}.attention.gate": torch.rand(1, heads, 1, 1) + 0.1 for i in layers}
    for i in layers[: len(layers) - used]:
        gates[f"layers.{i}.attention.gate"].zero_()
    return {"adapter_query.weight": torch.randn(used * TOKENS, width), **gates}


def test_prompts_are_those_of_the_topmost_layers(tmp_path: Path) -> None:
    tensors = prompts((0, 1, 2), 2)
    found = adaptr.load(saved(tmp_path, tensors))
    assert (found.method, found.config["tokens"], found.config["layers"]) == ("llama-adapter", TOKENS, 2)
    assert found.config["activation"] == "tanh"
    assert list(found.targets) == ["model.layers.1.self_attn", "model.layers.2.self_attn"]
    assert torch.equal(found.at("model.layers.2.self_attn")["A"], tensors["adapter_query.weight"][TOKENS:])
    assert torch.equal(
        found.at("model.layers.1.self_attn")["g"].flatten(), tensors["layers.1.attention.gate"].flatten()
    )


def test_it_does_what_a_softmax_of_its_own_over_its_prompt_does(tmp_path: Path) -> None:
    """The last layer's attention, with its input kept, as LLaMA-Adapter's code has it."""
    model = tiny.model("llama").eval()
    heads, width = model.config.num_attention_heads, model.config.hidden_size
    kv = model.config.num_key_value_heads
    last = len(model.model.layers) - 1
    tensors = prompts((last,), 1, heads, width)
    attention, kept = model.model.layers[last].self_attn, {}
    attention.o_proj.register_forward_hook(lambda module, inputs, output: kept.update(y=inputs[0]))
    attention.q_proj.register_forward_hook(lambda module, inputs, output: kept.update(x=inputs[0]))
    ids = torch.arange(6)[None] + 3
    with torch.no_grad():
        model(ids)
        bare, x = kept["y"], kept["x"]
        with adaptr.attach(model, adaptr.load(saved(tmp_path, tensors), model)):
            model(ids)
        A, gate = tensors["adapter_query.weight"], tensors[f"layers.{last}.attention.gate"]
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        def split(rows: Tensor, count: int) -> Tensor:
            return rows.view(1, rows.shape[-2], count, -1).transpose(1, 2).repeat_interleave(heads // count, 1)

        q = split(attention.q_proj(x), heads)
        cos, sin = model.model.rotary_emb(x, torch.arange(6)[None])
        q, _ = apply_rotary_pos_emb(q, q, cos, sin)
        k, v = (split(one(A[None]), kv) for one in (attention.k_proj, attention.v_proj))
        more = gate.tanh() * (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
    assert float(more.abs().max()) > 1e-3
    torch.testing.assert_close(kept["y"], bare + more.transpose(1, 2).flatten(2), atol=1e-5, rtol=0)


def test_the_gate_of_the_first_release_is_one_and_bare(tmp_path: Path) -> None:
    tensors = {**prompts((0, 1), 2), **{f"layers.{i}.attention.gate": torch.full((1,), 0.5) for i in (0, 1)}}
    found = adaptr.load(saved(tmp_path, tensors))
    assert (found.config["gate"], found.config["activation"], found.config["heads"]) == ("layer", "none", 1)


def test_version_2_scales_inputs_and_shifts_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny.model("llama").eval()
    layer = model.model.layers[0]
    q, down = layer.self_attn.q_proj.weight, layer.mlp.down_proj.weight
    tensors = {
        "layers.0.attention.wq_scale": torch.rand(q.shape[1]) + 0.5,
        "layers.0.attention.wq_bias": torch.randn(q.shape[0]),
        "layers.0.feed_forward.w2_scale": torch.rand(down.shape[1]) + 0.5,
        "layers.0.feed_forward.w2_bias": torch.randn(down.shape[0]),
        "layers.0.ffn_norm.weight": torch.rand(down.shape[0]),
    }
    found = adaptr.load(saved(tmp_path, tensors, inside=True), model)
    assert found.tensors[f"model.layers.0.post_attention_layernorm.weight:{REPLACED}"].equal(
        tensors["layers.0.ffn_norm.weight"]
    )
    x = torch.randn(1, 2, down.shape[1])
    with torch.no_grad(), adaptr.attach(model, found):
        y = layer.mlp.down_proj(x)
        z = layer.self_attn.q_proj(x[..., : q.shape[1]])
    s, t = tensors["layers.0.feed_forward.w2_scale"], tensors["layers.0.feed_forward.w2_bias"]
    torch.testing.assert_close(y, (x * s) @ down.mT + t)
    s, t = tensors["layers.0.attention.wq_scale"], tensors["layers.0.attention.wq_bias"]
    heads = model.config.num_attention_heads
    turned = t.view(heads, -1, 2).transpose(1, 2).flatten()  # halves of a head alternate in Meta's rows
    torch.testing.assert_close(z, (x[..., : q.shape[1]] * s) @ q.mT + turned)


def test_a_folder_with_one_is_its(tmp_path: Path) -> None:
    assert foreign.of(saved(tmp_path, prompts()).parent).name == "llama-adapter"


@pytest.mark.parametrize(
    ("tensors", "error", "match"),
    [
        (prompts() | {"visual_query.weight": torch.ones(3)}, e.Unsupported, "for pictures"),
        (prompts() | {"layers.0.other": torch.ones(3)}, e.TensorUnknown, "no tensor of a LLaMA-Adapter"),
        (prompts() | {"layers.00.attention.gate": torch.ones(3)}, e.ConfigConflict, "are one tensor"),
        (prompts((0, 1), 0) | {"adapter_query.weight": torch.ones(3, 4)}, e.ConfigConflict, r"those of layers \[\]"),
        (prompts((0, 2), 2), e.ConfigConflict, r"layers \[0, 2\], wanted those of the topmost"),
        (prompts() | {"adapter_query.weight": torch.ones(5, 4)}, e.ConfigConflict, "as many rows for each of 2"),
        (prompts() | {"layers.0.attention.gate": torch.ones(4)}, e.ConfigConflict, "wanted .1, heads, 1, 1."),
        ({"adapter_query.weight": torch.ones(3, 4)}, e.TensorAbsent, "no `layers.N.attention.gate`"),
        ({"layers.0.attention.wq_bias": torch.ones(4)}, e.ConfigMissing, "goes by the model's heads"),
        ({"layers.0.attention.wv_bias": torch.ones(4, 4)}, e.ConfigConflict, "1 axes"),
    ],
)
def test_what_is_wrong_is_refused(
    tensors: dict[str, Tensor], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(saved(tmp_path, tensors))
