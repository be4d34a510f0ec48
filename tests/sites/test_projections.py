"""Keys and values by an attention's own projections, in each layout, are what its forward gives to attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
import transformers as t
from torch import Tensor

import adaptr
import tiny
from adaptr import Method, Param
from adaptr.errors import Unsupported
from adaptr.host.projections import FUSED, keys_values
from brought import installed

SEEN: dict[str, Any] = {}


class Looks(Method):
    """Attention as it is, looked at."""

    name = "looks"
    family = "attention"
    formulas = ("attention",)
    kinds: ClassVar = frozenset({"attention"})
    targets: ClassVar = ("attention",)
    params: ClassVar = {"s": Param("1")}
    unmergeable = "tokens"

    def attention(self, rest: Any, a: Any, p: Any, cfg: Any, weight: float) -> Any:
        SEEN[p.place] = a
        return rest(a)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with installed(monkeypatch, Looks):
        yield
    SEEN.clear()


SMALL = {**tiny.COMMON, "pad_token_id": 0}
GROUPED = {**tiny.GROUPED, "pad_token_id": 0}
GPT = {"n_embd": 32, "n_head": 4, "n_layer": 1, "vocab_size": tiny.VOCAB, "n_positions": 64}
MODELS: dict[str, Callable[[], Any]] = {
    "gpt2": tiny.MAKERS["gpt2"],
    "gpt_bigcode": lambda: t.GPTBigCodeForCausalLM(t.GPTBigCodeConfig(**GPT, multi_query=False)),
    "gpt_bigcode, one head": lambda: t.GPTBigCodeForCausalLM(t.GPTBigCodeConfig(**GPT, multi_query=True)),
    "gpt_neox": tiny.MAKERS["neox"],
    "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**GROUPED)),
    "persimmon": lambda: t.PersimmonForCausalLM(t.PersimmonConfig(**SMALL, qk_layernorm=True)),
    "llama": tiny.MAKERS["llama"],
    "qwen3, norms of heads": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**GROUPED, head_dim=8)),
    "olmo2, norms of all": lambda: t.Olmo2ForCausalLM(t.Olmo2Config(**GROUPED)),
    "olmo, clipped": lambda: t.OlmoForCausalLM(t.OlmoConfig(**GROUPED, clip_qkv=0.1)),
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_they_are_what_the_forward_gives_to_attention(name: str) -> None:
    """At position 0, where no rotation turns anything."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # nothing is symmetric by chance
            parameter.add_(0.1 * torch.randn_like(parameter))
    taken: dict[str, Tensor] = {}

    def take(path: str) -> Any:
        return lambda m, args, kwargs: taken.update({path: args[0] if args else kwargs["hidden_states"]})

    adapter = adaptr.create(model, "looks")
    with adaptr.attach(model, adapter), torch.no_grad():
        for path in adapter.targets:
            model.get_submodule(path).register_forward_pre_hook(take(path), with_kwargs=True)
        model(input_ids=torch.arange(3, 8)[None], position_ids=torch.zeros(1, 5, dtype=torch.long))
        for path, a in SEEN.items():
            for got, wanted in zip(a.projected(taken[path][0]), (a.k[0], a.v[0]), strict=True):
                torch.testing.assert_close(got, wanted)
    assert SEEN


def test_a_layout_that_is_not_known_is_refused() -> None:
    class GPT2Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c_attn = torch.nn.Linear(8, 24)

    with pytest.raises(Unsupported, match=r"known apart.*or a fused one of gpt2, "):
        keys_values(GPT2Attention(), torch.randn(3, 8), 2, 4)


def test_a_norm_that_is_not_known_is_refused() -> None:
    module = torch.nn.Module()
    module.k_proj, module.v_proj = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
    module.k_norm_per_group = torch.nn.LayerNorm(4)
    with pytest.raises(Unsupported, match="`k_norm_per_group` of a `Module`"):
        keys_values(module, torch.randn(3, 8), 2, 4)


def test_each_model_of_the_table_is_tried() -> None:
    untried = {"decision_transformer", "phi4_multimodal"}  # copies of gpt2 and phi3, word for word
    assert {name.partition(",")[0] for name in MODELS} >= set(FUSED) - untried
