"""Deltas as OpenDelta saves them, and what its models compute with them. theirs.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import opendelta
import small_llama as small
import torch
import transformers

LLAMA, GPT2, BERT, BART = "llama", "gpt2", "bert", "bart"
#: Base to its class of transformers.
BASES = {LLAMA: "AutoModelForCausalLM", GPT2: "GPT2LMHeadModel", BERT: "BertForMaskedLM",
         BART: "BartForConditionalGeneration"}  # fmt: skip
#: Case to the base, a class, and what it is given.
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lora": (LLAMA, "LoraModel", {"lora_r": 3, "lora_alpha": 7, "modified_modules": ["q_proj", "down_proj"]}),
    "adapter": (LLAMA, "AdapterModel", {"bottleneck_dim": 5, "modified_modules": ["o_proj", "down_proj"]}),
    "adapter with relu": (
        LLAMA,
        "AdapterModel",
        {"bottleneck_dim": 4, "non_linearity": "relu", "modified_modules": ["self_attn"]},
    ),
    "low-rank adapter": (LLAMA, "LowRankAdapterModel", {"reduction_factor": 8, "modified_modules": ["mlp"]}),
    "soft prompt": (LLAMA, "SoftPromptModel", {"soft_token_num": 4, "token_init": False}),
    "compacter": (LLAMA, "CompacterModel", {"reduction_factor": 6, "modified_modules": ["self_attn", "mlp"]}),
    "compacter, rules of two factors": (
        LLAMA,
        "CompacterModel",
        {"reduction_factor": 6, "modified_modules": ["mlp"], "factorized_phm_rule": True, "phm_rank": 2},
    ),
    "compacter, whole blocks without biases": (
        LLAMA,
        "CompacterModel",
        {"reduction_factor": 12, "modified_modules": ["down_proj"], "factorized_phm": False,
         "use_bias_up_sampler": False, "use_bias_down_sampler": False},
    ),
    "parallel adapter": (LLAMA, "ParallelAdapterModel", {"bottleneck_dim": 5, "modified_modules": ["mlp", "mlp"]}),
    "parallel adapter over two modules": (
        LLAMA,
        "ParallelAdapterModel",
        {"bottleneck_dim": 5, "modified_modules": ["gate_proj", "down_proj"]},
    ),
    "parallel adapter in a module that ends it": (
        LLAMA,
        "ParallelAdapterModel",
        {"bottleneck_dim": 5, "modified_modules": ["mlp", "mlp.down_proj"]},
    ),
    "parallel adapter of common names": (GPT2, "ParallelAdapterModel", {"bottleneck_dim": 5}),
    "parallel adapter of BERT": (BERT, "ParallelAdapterModel", {"bottleneck_dim": 5}),
    "prefix of a network": (GPT2, "PrefixModel", {"prefix_token_num": 3, "embed_dim": 16, "mid_dim": 24}),
    "prefix of a network of BERT": (BERT, "PrefixModel", {"prefix_token_num": 3, "embed_dim": 16, "mid_dim": 24}),
    "prefix of BART": (
        BART,
        "PrefixModel",
        {"prefix_token_num": 3, "reparameterize": False, "modified_modules": ["self_attn"]},
    ),
    "prefix of a network of BART": (
        BART,
        "PrefixModel",
        {"prefix_token_num": 3, "embed_dim": 16, "mid_dim": 24, "modified_modules": ["self_attn"]},
    ),
    "prefix": (GPT2, "PrefixModel", {"prefix_token_num": 3, "reparameterize": False, "modified_modules": ["attn"]}),
    "prefix of a network of one layer": (
        GPT2,
        "PrefixModel",
        {"prefix_token_num": 3, "embed_dim": 16, "mid_dim": 24, "modified_modules": ["1.attn"]},
    ),
}  # fmt: skip


def bases(folder: Path) -> None:
    """Random values, large enough that every layer is heard."""
    small.write(folder / LLAMA)
    sizes = {"vocab_size": small.VOCABULARY, "hidden_size": small.WIDTH, "num_hidden_layers": 2,
             "num_attention_heads": small.HEADS}  # fmt: skip
    made = {
        GPT2: transformers.GPT2Config(**{"n_positions": small.LENGTH, **sizes}),
        BERT: transformers.BertConfig(**{"intermediate_size": small.INNER, **sizes}),
        BART: transformers.BartConfig(
            vocab_size=small.VOCABULARY,
            d_model=small.WIDTH,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=small.HEADS,
            decoder_attention_heads=small.HEADS,
            encoder_ffn_dim=small.INNER,
            decoder_ffn_dim=small.INNER,
            max_position_embeddings=small.LENGTH,
        ),
    }
    for name, config in made.items():
        model = getattr(transformers, BASES[name])(config)
        draw = torch.Generator().manual_seed(0)
        for key, value in sorted(model.named_parameters()):
            norm = "ln_" in key or "layernorm" in key.lower() or "layer_norm" in key
            value.data = 0.15 * torch.randn(value.shape, generator=draw) + float(norm)
        model.save_pretrained(folder / name)


def opened(folder: Path, base: str) -> Any:
    """With what of a model's attention OpenDelta was written for."""
    kind = getattr(transformers, BASES[base])
    return kind.from_pretrained(folder / base, torch_dtype=torch.float32, attn_implementation="eager").eval()


def shaken(model: Any, seed: int) -> None:
    """What is trained with noise for values."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, value in sorted((name, value) for name, value in model.named_parameters() if value.requires_grad):
            value.copy_(0.3 * torch.randn(value.shape, generator=draw))


def logits(model: Any) -> list[Any]:
    """Of the text alone, where tokens of a prompt are before it."""
    with torch.no_grad():
        found: list[Any] = model(input_ids=torch.tensor(small.IDS)).logits[0, -len(small.IDS[0]) :].tolist()
    return found


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    bases(folder)
    for base, kind in BASES.items():
        said = {"base": base, "model": kind}
        yield {"name": f"the base, {base}", "adapter": "", "outputs": logits(opened(folder, base)), **said}
    for number, (name, (base, kind, given)) in enumerate(CASES.items(), 1):
        model = opened(folder, base)
        delta = getattr(opendelta, kind)(backbone_model=model, **given)
        delta.freeze_module(exclude=["deltas"], set_state_dict=True)
        shaken(model, number)
        delta.save_finetuned(str(folder / f"delta{number}"))
        said = {"base": base, "model": BASES[base]}
        yield {"name": name, "adapter": f"delta{number}", "outputs": logits(model), **said}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), "theirs.json", limit=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
