"""Layers whose weight is read past their forward: adapted there, refused by name, or an error when the model runs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as t
from torch import Tensor, nn
from torch.nn import functional as F

import adaptr
from adaptr import errors
from adaptr.runtime.pool import fit
from adaptr.testing import assert_close, merged
from attached import X, fresh, seeded


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)
        self.fc = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.attn(x, x, x, need_weights=False)[0])
        return y


class Reads(nn.Module):
    """A module of a third party that reads a layer, a convolution and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.fc = nn.Linear(16, 16), nn.Linear(16, 16)
        self.conv = nn.Conv1d(16, 16, 3, padding=1)
        self.table = nn.Embedding(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addmm(self.lin.bias, x.flatten(0, 1), self.lin.weight.t()).view(x.shape)
        x = F.conv1d(x.transpose(1, 2), self.conv.weight, self.conv.bias, padding=1).transpose(1, 2)
        x = self.fc(x)
        return F.linear(x, self.table(torch.arange(16))) + F.linear(x, self.table.weight)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 2)


def mamba() -> nn.Module:
    sizes = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "time_step_rank": 4}
    return t.MambaForCausalLM(t.MambaConfig(**sizes, initializer_range=0.5))


def mamba2() -> nn.Module:
    sizes = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "head_dim": 8}
    return t.Mamba2ForCausalLM(t.Mamba2Config(**sizes, num_heads=8, n_groups=1, chunk_size=4))


def wavlm() -> nn.Module:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    convs = {"conv_dim": (32, 32), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_conv_pos_embeddings": 16}
    return t.WavLMModel(t.WavLMConfig(**sizes, **convs, num_conv_pos_embedding_groups=2, num_feat_extract_layers=2))


def tokens(model: nn.Module) -> Tensor:
    y: Tensor = model(torch.arange(16).view(2, 8)).logits
    return y


def sound(model: nn.Module) -> Tensor:
    y: Tensor = model(torch.randn(1, 800, generator=torch.Generator().manual_seed(1))).last_hidden_state
    return y


CASES: list[tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor], list[str]]] = [
    (Attention, lambda m: m(X), ["attn.out_proj"]),
    (encoder, lambda m: m(X), ["linear1", "linear2"]),
    (encoder, lambda m: m(X), ["self_attn.out_proj"]),
    (Reads, lambda m: m(X), ["lin"]),
    (Reads, lambda m: m(X), ["conv"]),
    (Reads, lambda m: m(X), ["table"]),
    (mamba, tokens, ["conv1d"]),
    (mamba, tokens, ["dt_proj"]),
    (mamba2, tokens, ["conv1d"]),
    (wavlm, sound, ["q_proj", "k_proj", "v_proj", "out_proj"]),
]
IDS = [f"{make.__name__}-{paths[0]}" for make, _, paths in CASES]


@pytest.mark.parametrize("method", ["lora", "full", "dora", "ia3", "bitfit"])
@pytest.mark.parametrize(("make", "run", "paths"), CASES, ids=IDS)
def test_read_weights_are_adapted(make: Any, run: Any, paths: list[str], method: str) -> None:
    model = seeded(make)
    if method in {"ia3", "bitfit"} and paths[0] == "table":
        pytest.skip("not on look-up tables")
    adapter = fresh(model, method, paths)
    with torch.no_grad():
        before, wanted = run(model), run(merged(model, [(adapter, 1.0)]))
        with adaptr.attach(model, adapter):
            assert_close(run(model), wanted, to=2e-5)
        assert torch.equal(run(model), before)
    assert not torch.allclose(wanted, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("make", "run", "paths"), CASES, ids=IDS)
def test_gradients_arrive(make: Any, run: Any, paths: list[str]) -> None:
    model = seeded(make).train()
    with adaptr.train(model, fresh(model, "lora", paths)) as session:
        run(model).square().sum().backward()
        assert [p.shape for p in session.parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.filterwarnings("ignore:.*nested tensors")
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_fast_path_of_an_encoder_is_given_what_it_reads(context: Any) -> None:
    model = seeded(encoder)
    adapter = fresh(model, "lora", ["all-linear"])
    wanted = merged(model, [(adapter, 1.0)])
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with context(), adaptr.attach(model, adapter):
        assert_close(model(X, src_key_padding_mask=padding)[0], wanted(X, src_key_padding_mask=padding)[0], to=2e-5)


@pytest.mark.parametrize("place", ["norm1", "dropout1", "self_attn", "linear2"])
def test_what_works_on_outputs_is_not_taken_by_the_fast_path(place: str) -> None:
    model = seeded(encoder)
    model.config = t.BertConfig(hidden_size=16)
    adapter = fresh(model, "houlsby", [place])
    with adaptr.attach(model, adapter):
        slow = model(X)
        with torch.no_grad():
            assert_close(model(X), slow, to=1e-5)
            padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
            assert_close(model(X, src_key_padding_mask=padding)[0], slow[0], to=1e-5)
    assert not torch.allclose(slow, model(X), atol=1e-4)
    assert model.use_nested_tensor


def test_a_stack_on_a_read_weight_is_its_merge() -> None:
    model = seeded(Attention)
    stack = [
        (fresh(model, m, ["attn.out_proj"], i), w) for i, (m, w) in enumerate([("lora", 1), ("dora", 1), ("ia3", 0.5)])
    ]
    wanted = merged(model, stack)(X)
    handles = [adaptr.attach(model, adapter, weight) for adapter, weight in stack]
    assert_close(model(X), wanted, to=2e-5)
    for handle in handles:
        handle.detach()
    assert type(model.attn.out_proj).__name__ == "NonDynamicallyQuantizableLinear"


def test_strength_is_heeded_at_the_next_read() -> None:
    model = seeded(Attention)
    adapter = fresh(model, "lora", ["attn.out_proj"])
    bare = model(X)
    with adaptr.attach(model, adapter) as handle:
        full = model(X)
        handle.weight = 0.5
        assert_close(model(X), merged_at(adapter, 0.5)(X), to=2e-5)
        handle.weight = 0.0
        assert_close(model(X), bare, to=1e-6)
        handle.weight = 1.0
        assert torch.equal(model(X), full)


def merged_at(adapter: adaptr.Adapter, weight: float) -> nn.Module:
    return merged(seeded(Attention), [(adapter, weight)])


@pytest.mark.parametrize("make", [Attention, Reads])
def test_a_copy_and_a_pickle_take_it_along(make: Any) -> None:
    model = seeded(make)
    adapter = fresh(model, "lora", ["all-linear"])
    with adaptr.attach(model, adapter):
        twin, again = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        wanted = model(X)
        assert torch.equal(twin(X), wanted)
        assert torch.equal(again(X), wanted)
    assert torch.equal(twin(X), wanted)


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("make", [Attention, Reads])
def test_it_compiles_without_a_break(make: Any, warm: bool) -> None:
    model = seeded(make)
    with adaptr.attach(model, fresh(model, "lora", ["all-linear"])), torch.no_grad():
        wanted = copy.deepcopy(model)(X)
        if warm:
            model(X)
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert_close(compiled(X), wanted, to=1e-5)


def test_detach_leaves_no_hook_and_no_attribute() -> None:
    model = seeded(encoder)
    before = {name: set(module.__dict__) for name, module in model.named_modules()}
    adaptr.attach(model, fresh(model, "lora", ["all-linear"])).detach()
    adaptr.train(model, fresh(model, "lora", ["all-linear"])).detach()
    assert {name: set(module.__dict__) for name, module in model.named_modules()} == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_what_is_stored_stays_the_base() -> None:
    model = seeded(Reads)
    before = model.lin.weight
    with adaptr.attach(model, fresh(model, "lora", ["lin"])):
        assert model.state_dict()["lin.weight"].data_ptr() == before.data_ptr()
        assert dict(model.named_parameters())["lin.weight"] is before
        assert not torch.equal(model.lin.weight, before)
    assert model.lin.weight is before


def test_an_ordinary_layer_shows_its_own_weight() -> None:
    model = seeded(Attention)
    before = model.fc.weight
    with adaptr.attach(model, fresh(model, "lora", ["fc"])):
        assert model.fc.weight is before


@pytest.mark.parametrize("method", ["houlsby", "arrow", "lora-soups"])
def test_no_weight_is_refused_before_anything_changes(method: str) -> None:
    model = seeded(Attention)
    model.config = t.BertConfig(hidden_size=16)
    if method == "houlsby":
        adapter = fresh(model, method, ["attn.out_proj"])
    else:
        children = {"a": fresh(model, "lora", ["attn.out_proj"]), "b": fresh(model, "lora", ["attn.out_proj"], 2)}
        adapter = adaptr.create(model, method, children=children)
    before = dict(model.attn.out_proj.__dict__)
    with pytest.raises(errors.Unsupported, match=r"`attn.out_proj`: .*never calls it"):
        adaptr.attach(model, adapter)
    assert model.attn.out_proj.__dict__ == before


def test_dropout_where_there_is_no_input_is_refused() -> None:
    model = seeded(Attention)
    adapter = fresh(model, "lora", ["attn.out_proj"], dropout=0.1)
    with pytest.raises(errors.Unsupported, match=r"`attn.out_proj`.*dropout=0"):
        adaptr.train(model, adapter)
    assert not adaptr.host.attached(model)
    with adaptr.attach(model, adapter):  # nothing is dropped when nothing is trained
        assert model(X).isfinite().all()


def test_a_pool_refuses_it_by_name() -> None:
    model = seeded(mamba)
    with pytest.raises(errors.Unsupported, match=r"dt_proj`, which is no linear layer that its model calls"):
        fit.require(model, fresh(model, "lora", ["dt_proj"], r=2))
