"""PEFT 0.21 as the oracle on tiny random models: what it wrote, adaptr attaches with the same outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
from adaptr.errors import TargetNotFound
from peft_models import (
    IDS,
    Convolutions,
    SquareConvolution,
    bert,
    gap,
    gpt2,
    gpt_oss,
    llama,
    made,
    mixtral,
    outputs,
    read_and_written_back,
    scrambled,
    t5,
)

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own

#: Name to (model, PEFT's configuration class, its arguments).
FROM_PEFT: Mapping[str, tuple[Callable[[], nn.Module], str, dict[str, Any]]] = {
    "llama-all-linear": (llama, "LoraConfig", {"target_modules": "all-linear", "r": 3, "lora_alpha": 7}),
    "llama-regex": (llama, "LoraConfig", {"target_modules": r".*layers\.1\.self_attn\.(q|v)_proj", "r": 2}),
    "llama-patterns": (
        llama,
        "LoraConfig",
        {
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "r": 4,
            "rank_pattern": {r"layers\.[0]\.self_attn\.q_proj": 2, "down_proj": 6},
            "alpha_pattern": {"^model.layers.1.self_attn.v_proj": 3},
            "use_rslora": True,
        },
    ),
    "llama-dora": (llama, "LoraConfig", {"target_modules": ["q_proj", "up_proj"], "r": 3, "use_dora": True}),
    "llama-embeddings": (llama, "LoraConfig", {"target_modules": ["embed_tokens", "lm_head", "k_proj"], "r": 3}),
    "llama-dora-embeddings": (llama, "LoraConfig", {"target_modules": ["embed_tokens"], "r": 3, "use_dora": True}),
    "llama-lora-bias": (llama, "LoraConfig", {"target_modules": ["o_proj"], "r": 3, "lora_bias": True}),
    "llama-alora": (
        llama,
        "LoraConfig",
        {"target_modules": ["q_proj"], "r": 3, "alora_invocation_tokens": [11, 2], "task_type": "CAUSAL_LM"},
    ),
    "llama-alora-bias": (
        llama,
        "LoraConfig",
        {
            "target_modules": ["q_proj", "up_proj"],
            "r": 3,
            "rank_pattern": {"up_proj": 2},
            "use_rslora": True,
            "lora_bias": True,
            "alora_invocation_tokens": [8],
            "task_type": "CAUSAL_LM",
        },
    ),
    "gpt2-alora": (
        gpt2,
        "LoraConfig",
        {
            "target_modules": ["c_attn"],
            "r": 3,
            "fan_in_fan_out": True,
            "alora_invocation_tokens": [11, 2],
            "task_type": "CAUSAL_LM",
        },
    ),
    "llama-ia3": (
        llama,
        "IA3Config",
        {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    ),
    "llama-saved": (llama, "LoraConfig", {"target_modules": ["q_proj"], "modules_to_save": ["norm", "lm_head"]}),
    "llama-prompt": (llama, "PromptTuningConfig", {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}),
    "llama-ptuning": (
        llama,
        "PromptEncoderConfig",
        {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3, "encoder_hidden_size": 16},
    ),
    "llama-prefix": (llama, "PrefixTuningConfig", {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}),
    "llama-prefix-projected": (
        llama,
        "PrefixTuningConfig",
        {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3, "prefix_projection": True, "encoder_hidden_size": 16},
    ),
    "gpt2-lora": (gpt2, "LoraConfig", {"target_modules": ["c_attn", "c_proj"], "r": 3, "fan_in_fan_out": True}),
    "gpt2-dora": (gpt2, "LoraConfig", {"target_modules": ["c_fc"], "use_dora": True, "fan_in_fan_out": True}),
    "gpt2-mixed": (gpt2, "LoraConfig", {"target_modules": ["c_attn", "wte"], "r": 3, "fan_in_fan_out": True}),
    "gpt2-ia3": (
        gpt2,
        "IA3Config",
        {"target_modules": ["c_attn", "mlp.c_proj"], "feedforward_modules": ["mlp.c_proj"], "fan_in_fan_out": True},
    ),
    "gpt2-prefix": (gpt2, "PrefixTuningConfig", {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}),
    "bert-lora": (bert, "LoraConfig", {"target_modules": ["query", "value"], "r": 3, "task_type": "SEQ_CLS"}),
    "bert-bias-all": (bert, "LoraConfig", {"target_modules": ["query", "dense"], "r": 3, "bias": "all"}),
    "bert-bias-lora-only": (bert, "LoraConfig", {"target_modules": ["query"], "r": 3, "bias": "lora_only"}),
    "bert-prefix": (bert, "PrefixTuningConfig", {"task_type": "SEQ_CLS", "num_virtual_tokens": 3}),
    "llama-adalora": (llama, "AdaLoraConfig", {"target_modules": ["q_proj", "up_proj"], "init_r": 4, "total_step": 10}),
    "gpt2-adalora": (
        gpt2,
        "AdaLoraConfig",
        {"target_modules": ["c_attn"], "init_r": 4, "total_step": 10, "fan_in_fan_out": True},
    ),
    "llama-loha": (llama, "LoHaConfig", {"target_modules": ["q_proj", "up_proj"], "r": 3, "alpha": 5}),
    "llama-lokr": (llama, "LoKrConfig", {"target_modules": ["q_proj", "k_proj", "up_proj"], "r": 2, "alpha": 3}),
    "llama-lokr-both": (
        llama,
        "LoKrConfig",
        {"target_modules": ["q_proj", "up_proj"], "r": 2, "decompose_both": True, "decompose_factor": 8},
    ),
    "llama-lokr-full": (llama, "LoKrConfig", {"target_modules": ["q_proj"], "r": 64, "alpha": 32}),
    "llama-vera": (llama, "VeraConfig", {"target_modules": ["q_proj", "k_proj", "down_proj"], "r": 5}),
    "gpt2-vera": (gpt2, "VeraConfig", {"target_modules": ["c_attn"], "r": 5, "fan_in_fan_out": True}),
    "llama-oft": (llama, "OFTConfig", {"target_modules": ["q_proj", "down_proj"], "oft_block_size": 8}),
    "llama-oft-exact": (
        llama,
        "OFTConfig",
        {"target_modules": ["q_proj", "down_proj"], "oft_block_size": 8, "use_cayley_neumann": False},
    ),
    "llama-oft-shared": (
        llama,
        "OFTConfig",
        {"target_modules": ["q_proj"], "oft_block_size": 8, "block_share": True, "num_cayley_neumann_terms": 3},
    ),
    "llama-boft": (llama, "BOFTConfig", {"target_modules": ["q_proj", "v_proj", "down_proj"], "boft_block_size": 8}),
    "llama-boft-number": (
        llama,
        "BOFTConfig",
        {"target_modules": ["q_proj"], "boft_block_size": 0, "boft_block_num": 4},
    ),
    "bert-boft": (bert, "BOFTConfig", {"target_modules": ["query", "output.dense"], "task_type": "SEQ_CLS"}),
    "llama-hra": (llama, "HRAConfig", {"target_modules": ["q_proj", "v_proj", "down_proj"], "r": 4}),
    "llama-hra-odd": (llama, "HRAConfig", {"target_modules": ["q_proj"], "r": 3}),
    "bert-hra-gs": (bert, "HRAConfig", {"target_modules": ["query"], "apply_GS": True, "init_weights": False}),
    "square-hra": (SquareConvolution, "HRAConfig", {"target_modules": ["conv", "last"], "r": 2}),
    "square-boft": (SquareConvolution, "BOFTConfig", {"target_modules": ["conv"], "boft_block_size": 3}),
    "llama-ln": (llama, "LNTuningConfig", {"target_modules": ["input_layernorm", "norm"], "task_type": "CAUSAL_LM"}),
    "gpt2-ln": (gpt2, "LNTuningConfig", {"target_modules": ["ln_1", "ln_f"], "modules_to_save": ["wpe"]}),
    "llama-shira": (llama, "ShiraConfig", {"target_modules": ["q_proj", "v_proj"], "r": 3}),
    "convolutions-loha": (Convolutions, "LoHaConfig", {"target_modules": ["one", "two", "last"], "r": 2}),
    "convolutions-loha-tucker": (
        Convolutions,
        "LoHaConfig",
        {"target_modules": ["one", "two"], "r": 2, "use_effective_conv2d": True},
    ),
    "convolutions-lokr": (Convolutions, "LoKrConfig", {"target_modules": ["two", "last"], "r": 1}),
    "convolutions-lokr-full": (Convolutions, "LoKrConfig", {"target_modules": ["two"], "r": 8}),
    "convolutions-lokr-tucker": (
        Convolutions,
        "LoKrConfig",
        {"target_modules": ["two"], "r": 1, "use_effective_conv2d": True},
    ),
    "convolutions-adalora": (Convolutions, "AdaLoraConfig", {"target_modules": ["two"], "init_r": 3, "total_step": 9}),
    "t5-lora": (t5, "LoraConfig", {"target_modules": ["q", "v", "wo"], "r": 3, "task_type": "SEQ_2_SEQ_LM"}),
    "t5-ia3": (t5, "IA3Config", {"target_modules": ["k", "v", "wo"], "feedforward_modules": ["wo"]}),
    "convolutions": (Convolutions, "LoraConfig", {"target_modules": ["one", "two", "three", "last"], "r": 3}),
    "convolutions-dora": (Convolutions, "LoraConfig", {"target_modules": ["one", "two"], "r": 3, "use_dora": True}),
    "mixtral-experts": (
        mixtral,
        "LoraConfig",
        {
            "target_modules": ["q_proj"],
            "r": 2,
            "rank_pattern": {"experts.down_proj": 3},
            "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        },
    ),
    "gpt-oss-experts": (
        gpt_oss,
        "LoraConfig",
        {"target_modules": [], "r": 2, "target_parameters": ["mlp.experts.down_proj"]},
    ),
}


@pytest.mark.parametrize("name", FROM_PEFT)
def test_what_peft_wrote(peft: Any, name: str, tmp_path: Path) -> None:
    read_and_written_back(peft, *FROM_PEFT[name], tmp_path)


def test_an_alora_generates_what_it_does_in_peft(peft: Any, tmp_path: Path) -> None:
    """Its invocation is looked for in the prompt, and goes on in what is generated over the cache."""
    _, cls, arguments = FROM_PEFT["llama-alora"]
    theirs = peft.get_peft_model(made(llama), getattr(peft, cls)(**arguments)).eval()
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "peft")
    how = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    prompt = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "pad_token_id": 0}
    want = torch.stack(theirs.generate(**prompt, **how).logits)
    model: Any = made(llama)
    with adaptr.attach(model, adaptr.load(tmp_path / "peft")):
        assert gap(torch.stack(model.generate(**prompt, **how).logits), want) <= 1e-5


def test_a_core_of_one_axis_under_names_that_the_base_has_otherwise(peft: Any, tmp_path: Path) -> None:
    """How many axes the convolution has is asked of the base, which here has the trained model as a part."""
    _, cls, arguments = FROM_PEFT["convolutions-loha-tucker"]
    theirs = peft.get_peft_model(made(Convolutions), getattr(peft, cls)(**arguments)).eval()
    scrambled(theirs)
    want = outputs(theirs)
    theirs.save_pretrained(tmp_path / "peft")
    whole = nn.ModuleDict({"part": made(Convolutions)})
    whole["part"].base_model_prefix = ""  # as a model of transformers in another has it
    adapter = adaptr.load(tmp_path / "peft", base=whole)
    assert adapter.targets["one"].kind == "conv1d"
    with adaptr.attach(whole, adapter):
        assert gap(outputs(whole["part"]), want) <= 1e-5


def test_a_core_where_the_base_has_no_convolution(peft: Any, tmp_path: Path) -> None:
    _, cls, arguments = FROM_PEFT["convolutions-loha-tucker"]
    peft.get_peft_model(made(Convolutions), getattr(peft, cls)(**arguments)).save_pretrained(tmp_path / "peft")
    other = made(Convolutions)
    other.one = nn.Linear(3, 6)
    with pytest.raises(TargetNotFound, match="`one` is no convolution"):
        adaptr.load(tmp_path / "peft", base=other)
