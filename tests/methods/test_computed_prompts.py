"""Prompts and prefixes that are computed of other tensors while they learn: what of, and that only the result stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adaptr
import tiny
from adaptr import plugins
from adaptr.errors import Unsupported, UsageError
from adaptr.testing import assert_close, bits_equal, logits, shaken
from adaptr.testing.samples import trained_keys
from adaptr_plugins.prompt import ipt


def front(adapter: adaptr.Adapter) -> dict[str, dict[str, Tensor]]:
    """What a method puts in front, by target."""
    method: Any = plugins.method(adapter.method)
    return {path: method.front(adapter.at(path), method.config(t.config)) for path, t in adapter.targets.items()}


def test_p_tuning_is_torchs_lstm_and_a_network() -> None:
    adapter = shaken(adaptr.create(tiny.model("llama"), "p-tuning", tokens=4, hidden=5), by=0.3)
    t = adapter.at("")
    lstm = nn.LSTM(tiny.WIDTH, 5, num_layers=2, bidirectional=True, batch_first=True)
    for layer, name in enumerate(("", "2")):
        for way, end in enumerate(("", "_reverse")):
            getattr(lstm, f"weight_ih_l{layer}{end}").data = t[f"U{name}"][way]
            getattr(lstm, f"weight_hh_l{layer}{end}").data = t[f"V{name}"][way]
            getattr(lstm, f"bias_ih_l{layer}{end}").data = t[f"b{name}"][way, 0]
            getattr(lstm, f"bias_hh_l{layer}{end}").data = t[f"b{name}"][way, 1]
    with torch.no_grad():
        x = (lstm(t["Z"][None])[0][0] @ t["A"].T + t["a"]).relu()
        assert_close(front(adapter)[""]["P"], x @ t["O"].T + t["o"])


def test_p_tuning_by_three_layers_is_pefts() -> None:
    peft = pytest.importorskip("peft")
    adapter = shaken(adaptr.create(tiny.model("llama"), "p-tuning", tokens=4, encoder="mlp", hidden=6), by=0.3)
    t = adapter.at("")
    theirs = peft.PromptEncoder(
        peft.PromptEncoderConfig(
            num_virtual_tokens=4, token_dim=tiny.WIDTH, encoder_hidden_size=6, num_transformer_submodules=1
        )
    )
    theirs.embedding.weight.data = t["Z"]
    for layer, (W, b) in zip(theirs.mlp_head[::2], ("Aa", "Mm", "Oo"), strict=True):
        layer.weight.data, layer.bias.data = t[W], t[b]
    with torch.no_grad():
        assert_close(front(adapter)[""]["P"], theirs(torch.arange(4)))


def test_a_prefix_of_a_network_is_one_for_all_layers() -> None:
    adapter = shaken(adaptr.create(tiny.model("gpt2"), "prefix", tokens=3, mlp=6), by=0.3)
    x = torch.tanh(adapter.tensors[":Z"][0] @ adapter.tensors[":W"][0].T + adapter.tensors[":w"][0])
    for path, made in front(adapter).items():
        t = adapter.at(path)
        for name, matrix, bias in (("K", "A", "a"), ("V", "B", "b")):
            wanted = x @ t[matrix].flatten(0, 1).T + t[bias].flatten()
            assert_close(made[name], wanted.view(3, 4, 8).transpose(0, 1))


def test_each_sort_of_attention_has_a_network_of_its_own() -> None:
    adapter = adaptr.create(tiny.model("t5"), "prefix", tokens=3, mlp=6)
    assert adapter.tensors[":Z"].shape == (3, 3, tiny.WIDTH)
    found = {path.rpartition(".")[2] + path.partition(".")[0]: t.config["group"] for path, t in adapter.targets.items()}
    assert found == {"SelfAttentionencoder": 0, "SelfAttentiondecoder": 1, "EncDecAttentiondecoder": 2}


COMPUTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lstm": ("llama", "p-tuning", {"tokens": 3, "dropout": 0.5}),
    "mlp": ("bert", "p-tuning", {"tokens": 3, "encoder": "mlp"}),
    "ipt": ("gpt2", "ipt", {"tokens": 3, "intrinsic": 4, "hidden": 8}),
    "mpt": ("t5", "mpt", {"tokens": 3, "r": 2}),
    "prefix": ("llama", "prefix", {"tokens": 3, "mlp": 6}),
    "shifted prefix": ("llama", "prefix", {"tokens": 3, "mlp": 6, "position_offset": "shift"}),
    "prefix of two stacks": ("t5", "prefix", {"tokens": 3, "mlp": 6}),
    "v2": ("bert", "p-tuning-v2", {"tokens": 3, "mlp": 6}),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_finished_does_the_same_without_the_network(name: str) -> None:
    architecture, method, config = COMPUTED[name]
    model, given = tiny.model(architecture), tiny.inputs(architecture)
    adapter = shaken(adaptr.create(model, method, **config))
    with adaptr.train(model, adapter) as session:
        loss = logits(model(**given)).square().mean()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in session.parameters())
        done = session.finish()
    kept = {"K", "V"} if ":P" not in done.tensors else {"P"}
    assert {key.rpartition(":")[2] for key in done.tensors} == kept
    with torch.no_grad():
        with adaptr.attach(model, adapter):
            wanted = logits(model(**given))
            assert bits_equal(logits(model(**given)), wanted)
        with adaptr.attach(model, done):
            assert_close(logits(model(**given)), wanted)


@pytest.mark.parametrize("name", COMPUTED)
def test_it_is_put_together_as_what_it_computes(name: str) -> None:
    architecture, method, config = COMPUTED[name]
    one, two = (shaken(adaptr.create(tiny.model(architecture), method, **config), seed) for seed in (1, 2))
    both = adaptr.compose([one, two], "concat").adapter
    mean = adaptr.compose([one, two], "average").adapter
    for path, (first, second) in {p: (front(one)[p], front(two)[p]) for p in one.targets}.items():
        for key, tensor in first.items():
            axis = 0 if key == "P" else 1
            assert_close(both.at(path)[key], torch.cat([tensor, second[key]], axis))
            assert_close(mean.at(path)[key], (tensor + second[key]) / 2)


def test_an_intrinsic_prompt_is_its_decoder_written_out() -> None:
    adapter = shaken(adaptr.create(tiny.model("llama"), "ipt", tokens=3, intrinsic=4, hidden=6))
    t = adapter.at("")
    flat = t["D2"].flatten(0, 1) @ torch.tanh(t["D1"] @ t["z"] + t["d1"]) + t["d2"].flatten()
    assert_close(front(adapter)[""]["P"], flat.view(3, tiny.WIDTH))


def test_a_decoder_is_fitted_to_prompts_and_what_is_none_is_refused() -> None:
    model = tiny.model("llama")
    prompts = {str(n): shaken(adaptr.create(model, "prompt", tokens=3, seed=n), n, by=1.0) for n in range(3)}
    made = adaptr.create(model, "ipt", children=prompts, intrinsic=2, hidden=16, steps=600)
    assert trained_keys(made) == [":z"]
    P = torch.stack([one.tensors[":P"] for one in prompts.values()])
    decoder = {name: made.tensors[f":{name}"] for name in ("D1", "d1", "D2", "d2")}
    z = torch.zeros(3, 2, requires_grad=True)
    optimiser = torch.optim.Adam([z], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        (ipt.decoded(decoder, z) - P).square().mean().backward()
        optimiser.step()
    rest = (ipt.decoded(decoder, z) - P).square().mean()
    assert rest < 0.1 * (P - P.mean(0)).square().mean(), "two numbers tell three prompts apart"
    lora = adaptr.create(model, "lora", r=2)
    with pytest.raises(Unsupported, match="`b` is `lora`"):
        adaptr.create(model, "ipt", children={"a": prompts["0"], "b": lora})


@pytest.mark.parametrize(
    ("method", "config", "other"),
    [
        ("p-tuning", {"tokens": 3}, "prompt"),
        ("ipt", {"tokens": 3, "intrinsic": 4, "hidden": 8}, "prompt"),
        ("cpt", {"ids": [5, 9, 4]}, "mpt"),
        ("prompt", {"tokens": 3}, "p-tuning"),
        ("prefix", {"tokens": 3, "mlp": 6, "position_offset": "shift"}, "cartridge"),
        ("cartridge", {"tokens": 3}, "p-tuning-v2"),
    ],
)
def test_it_is_written_as_another_method_that_does_the_same(
    method: str, config: dict[str, Any], other: str, tmp_path: Path
) -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    adapter = shaken(adaptr.create(model, method, **config))
    adaptr.save(adapter, tmp_path / "a.safetensors")
    report = adaptr.convert_method(tmp_path / "a.safetensors", tmp_path / "b.safetensors", other)
    made = adaptr.load(tmp_path / "b.safetensors")
    assert (report.exact, made.method) == (True, other)
    with torch.no_grad():
        with adaptr.attach(model, adapter):
            wanted = logits(model(**given))
        with adaptr.attach(model, made):
            assert_close(logits(model(**given)), wanted)


def test_what_is_no_prompt_is_not_written_as_one(tmp_path: Path) -> None:
    adaptr.save(adaptr.create(tiny.model("llama"), "lora", r=2), tmp_path / "a.safetensors")
    with pytest.raises(Unsupported, match="does not do what a `prompt` can do"):
        adaptr.convert_method(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "prompt")
    with pytest.raises(UsageError, match="has no rank"):
        adaptr.convert_method(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "prompt", rank=2)
