"""PEFT 0.21 as the oracle on tiny random models: what adaptr wrote, PEFT loads with the same outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from peft_models import (
    Convolutions,
    SquareConvolution,
    bert,
    gpt2,
    gpt_oss,
    llama,
    mixtral,
    t5,
    written_and_read_back,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own


#: Name to (model, method, arguments of `create`).
FROM_ADAPTR: Mapping[str, tuple[Callable[[], nn.Module], str, dict[str, Any]]] = {
    "llama-lora": (llama, "lora", {"targets": "all-linear", "r": 3, "alpha": 5.0}),
    "llama-overrides": (
        llama,
        "lora",
        {"targets": ["attn.q", "mlp.down"], "r": 3, "overrides": {"*.0.*": {"r": 5, "alpha": 2.0}}},
    ),
    "llama-mixed-scales": (
        llama,
        "lora",
        {"targets": ["attn.q", "attn.v"], "r": 3, "overrides": {"*v_proj": {"rslora": True}}},
    ),
    "llama-bias": (llama, "lora", {"targets": "attn.q", "r": 3, "bias": True}),
    "llama-embedding": (llama, "lora", {"targets": ["embed_tokens", "attn.q"], "r": 3}),
    "llama-dora": (llama, "dora", {"targets": ["attn.q", "mlp.up"], "r": 3, "rslora": True}),
    "llama-alora": (llama, "alora", {"r": 3, "invocation": [11, 2]}),
    "gpt2-alora": (gpt2, "alora", {"r": 3, "invocation": [8]}),
    "llama-ia3": (llama, "ia3", {}),
    "llama-prompt": (llama, "prompt", {"tokens": 4}),
    "llama-prefix": (llama, "prefix", {"tokens": 4, "position_offset": "shift"}),
    "gpt2-lora": (gpt2, "lora", {"targets": "all-linear", "r": 3}),
    "gpt2-dora": (gpt2, "dora", {"targets": "attn.qkv", "r": 3}),
    "gpt2-ia3": (gpt2, "ia3", {}),
    "gpt2-prefix": (gpt2, "prefix", {"tokens": 4, "position_offset": "shift"}),
    "bert-lora": (bert, "lora", {"targets": ["attn.q", "attn.v"], "r": 3}),
    "bert-ia3": (bert, "ia3", {}),
    "bert-prefix": (bert, "prefix", {"tokens": 4, "position_offset": "shift"}),
    "t5-lora": (t5, "lora", {"targets": ["attn.q", "attn.v"], "r": 3}),
    "t5-prompt": (t5, "prompt", {"tokens": 4}),
    "llama-adalora": (llama, "adalora", {"targets": ["attn.q", "mlp.up"], "r": 4}),
    "llama-adalora-pruned": (
        llama,
        "adalora",
        {
            "targets": ["attn.q", "attn.k"],
            "begun": 5,
            "r": 5,
            "overrides": {"*.0.*": {"r": 3}, "*.1.*k_proj": {"r": 0}},
        },
    ),
    "llama-loha": (llama, "loha", {"targets": "all-linear", "r": 2}),
    "llama-lokr": (llama, "lokr", {"targets": "all-linear", "r": 2, "overrides": {"*.0.*": {"alpha": 5.0}}}),
    "llama-lokr-both": (llama, "lokr", {"targets": "attn.q", "r": 1, "decompose_both": True, "factor": 4}),
    "llama-vera": (llama, "vera", {"targets": ["attn.q", "attn.k", "mlp.down"], "r": 7}),
    "llama-oft": (llama, "oft", {"targets": ["attn.q", "mlp.down"], "b": 8}),
    "llama-oft-series": (llama, "oft", {"targets": ["attn.q", "mlp.down"], "b": 8, "terms": 5}),
    "llama-boft": (llama, "boft", {"targets": ["attn.q", "attn.v", "mlp.down"], "b": 8}),
    "llama-boft-number": (llama, "boft", {"targets": ["attn.q", "mlp.down"], "n": 4}),
    "llama-hra": (llama, "hra", {"targets": ["attn.q", "attn.v", "mlp.down"], "r": 4}),
    "bert-hra-gs": (bert, "hra", {"targets": ["attn.q"], "r": 3, "gs": True}),
    "square-hra": (SquareConvolution, "hra", {"targets": ["conv", "last"], "r": 2}),
    "square-boft": (SquareConvolution, "boft", {"targets": ["conv"], "b": 6}),
    "llama-qdora": (llama, "qdora", {"targets": ["attn.q", "mlp.up"], "r": 3}),
    "llama-ln": (llama, "ln-tuning", {}),
    "llama-ln-of-blocks": (llama, "layernorm", {}),
    "gpt2-ln": (gpt2, "ln-tuning", {"targets": r"re:.*ln_\d"}),
    "llama-shira": (llama, "shira", {"targets": ["attn.q", "attn.v"], "r": 3}),
    "convolutions-loha": (Convolutions, "loha", {"targets": ["one", "two"], "r": 2, "tucker": True}),
    "convolutions-lokr": (Convolutions, "lokr", {"targets": ["two", "last"], "r": 1}),
    "convolutions": (Convolutions, "lora", {"targets": ["one", "two", "three", "last"], "r": 3}),
    "mixtral-experts": (mixtral, "lora", {"targets": ["experts.gate_up_proj", "experts.down_proj"], "r": 2}),
    "gpt-oss-experts": (gpt_oss, "lora", {"targets": ["experts.down_proj", "attn.q"], "r": 2}),
}


@pytest.mark.parametrize("name", FROM_ADAPTR)
def test_what_adaptr_wrote(peft: Any, name: str, tmp_path: Path) -> None:
    written_and_read_back(peft, *FROM_ADAPTR[name], tmp_path)
