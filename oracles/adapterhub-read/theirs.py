"""Adapters as AdapterHub's library writes them, on models of every type that it has, and what these give. theirs.py
FOLDER
"""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adapters
import cases
import setups
import torch
import transformers as t
from adapterhub_bases import BART, HEARD, SEEN, STILL, T5, TEXT, D
from adapters import configuration as c
from safetensors.torch import save_file
from torch import Tensor, nn

#: Type of the model to its class and configuration.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", {**D, **TEXT, **STILL}),
    "roberta": ("RobertaModel", "RobertaConfig", {**D, **TEXT, **STILL, "pad_token_id": 1}),
    "electra": ("ElectraModel", "ElectraConfig", {**D, **TEXT, **STILL, "embedding_size": 40}),
    "distilbert": ("DistilBertModel", "DistilBertConfig", {"vocab_size": 50, "dim": 40, "n_layers": 2, "n_heads": 5,
                                                           "hidden_dim": 56, "max_position_embeddings": 32,
                                                           "dropout": 0.0, "attention_dropout": 0.0}),
    "albert": ("AlbertModel", "AlbertConfig", {**D, **TEXT, **STILL, "embedding_size": 20}),
    "bert-generation": ("BertGenerationEncoder", "BertGenerationConfig", {**D, **TEXT, **STILL}),
    "deberta": ("DebertaModel", "DebertaConfig", {**D, **TEXT, **STILL, "relative_attention": True,
                                                  "pos_att_type": ["c2p", "p2c"]}),
    "deberta-v2": ("DebertaV2Model", "DebertaV2Config", {**D, **TEXT, **STILL, "relative_attention": True,
                                                         "pos_att_type": ["c2p", "p2c"]}),
    "bart": ("BartModel", "BartConfig", BART),
    "mbart": ("MBartModel", "MBartConfig", BART),
    "plbart": ("PLBartModel", "PLBartConfig", BART),
    "t5": ("T5Model", "T5Config", T5),
    "mt5": ("MT5Model", "MT5Config", {**T5, "feed_forward_proj": "gated-gelu"}),
    "gptj": ("GPTJModel", "GPTJConfig", {"vocab_size": 50, "n_embd": 40, "n_layer": 2, "n_head": 5, "n_inner": 56,
                                         "n_positions": 32, "rotary_dim": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
                                         "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2}),
    "vit": ("ViTModel", "ViTConfig", SEEN),
    "beit": ("BeitModel", "BeitConfig", {**SEEN, "drop_path_rate": 0.0}),
    "whisper": ("WhisperModel", "WhisperConfig", HEARD),
    "xmod": ("XmodModel", "XmodConfig", {**D, **TEXT, **STILL, "languages": ["en_XX"], "default_language": "en_XX",
                                         "adapter_reduction_factor": 2, "pre_norm": False}),
    "clip": ("CLIPTextModel", "CLIPTextConfig", {**D, **TEXT, "bos_token_id": 1, "eos_token_id": 2}),
    "clip-vision": ("CLIPVisionModel", "CLIPVisionConfig", {**D, "image_size": 16, "patch_size": 8}),
    "clip-both": ("CLIPModel", "CLIPConfig", {
        "text_config": {**D, **TEXT, "bos_token_id": 1, "eos_token_id": 2}, "projection_dim": 16,
        "vision_config": {**D, "image_size": 16, "patch_size": 8},
    }),
}  # fmt: skip
METHODS: dict[str, Any] = {
    "lora": lambda: c.LoRAConfig(r=3, alpha=6, intermediate_lora=True, output_lora=True, attn_matrices=["q", "k", "v"]),
    "ia3": lambda: c.IA3Config(),
    "double_seq_bn": lambda: c.DoubleSeqBnConfig(reduction_factor=8),
    "seq_bn": lambda: c.SeqBnConfig(reduction_factor=5, mh_adapter=True, cross_adapter=True),
    "par_bn": lambda: c.ParBnConfig(reduction_factor=4),
    "loreft": lambda: c.LoReftConfig(r=2),
    "seq_bn_inv": lambda: c.SeqBnInvConfig(reduction_factor=5),
    "prompt": lambda: c.PromptTuningConfig(prompt_length=4),
    "prompt_bos": lambda: c.PromptTuningConfig(prompt_length=4, combine="prefix_after_bos"),
}
#: Where rows of a prompt are in what a model gives, which adaptr leaves out.
ROWS = {"prompt": (0, 4), "prompt_bos": (1, 5)}


def given(kind: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    seen = {"pixel_values": torch.randn(2, 3, 16, 16, generator=draw)}
    if kind in ("vit", "beit", "clip-vision"):
        return seen
    ids = torch.randint(3, 50, (2, 9), generator=draw)
    first = {"input_features": torch.randn(2, 8, 16, generator=draw)} if kind == "whisper" else {"input_ids": ids}
    first |= seen if kind == "clip-both" else {}
    two = kind in ("bart", "mbart", "plbart", "t5", "mt5", "whisper")
    return {**first, **({"decoder_input_ids": ids[:, :6].contiguous()} if two else {})}


def shaken(model: nn.Module, part: str, seed: int) -> None:
    """Values away from where they start."""
    draw = torch.Generator().manual_seed(seed)
    done = set()
    for name, value in sorted(model.named_parameters()):
        if part in name and id(value) not in done and not name.endswith(".original"):
            done.add(id(value))
            ones = (value.ndim == 1 and name.endswith("weight")) or (name.endswith("lora_B") and value.shape[-1] == 1)
            value.data = float(ones) + 0.2 * torch.randn(value.shape, generator=draw)


def without(model: nn.Module, drawn: str) -> None:
    """What the library draws at random where transformers has nothing is nothing."""
    for name, value in model.named_parameters():
        if name.endswith(drawn):
            nn.init.zeros_(value)


def output(model: Any, kind: str, method: str = "") -> list[Any]:
    with torch.no_grad():
        found = model(**given(kind))[0]
    first, last = ROWS.get(method, (0, 0))
    text: list[Any] = torch.cat([found[:, :first], found[:, last:]], 1).tolist()
    return text


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    for kind, (model, config, said) in MODELS.items():
        torch.manual_seed(0)
        # eagerly its DistilBERT can't compute with prompts
        attention = "sdpa" if kind == "distilbert" else "eager"
        base = getattr(t, model)._from_config(getattr(t, config)(**said), attn_implementation=attention).eval()
        shaken(base, "", 1)
        base.save_pretrained(folder / kind)
        save_file(given(kind), folder / f"{kind}-given.safetensors")
        yield {"name": kind, "base": kind, "model": model, "adapter": "", "outputs": output(base, kind)}
        for number, (method, make) in enumerate(METHODS.items()):
            try:
                made = copy.deepcopy(base)
                adapters.init(made)
                without(made, "in_proj.bias")
                made.add_adapter("a", config=make())
                shaken(made, ".a.", 10 + number)
                made.set_active_adapters("a")
                outputs = output(made.eval(), kind, method)
                made.save_adapter(str(folder / f"{kind}-{method}"), "a", use_safetensors=True)
            except Exception as error:
                print(f"{method} on {kind}: {type(error).__name__}: {str(error)[:150]}", file=sys.stderr)
                continue
            case = {"name": f"{method} on {kind}", "base": kind, "model": model, "adapter": f"{kind}-{method}"}
            yield {**case, "outputs": outputs}


def main(folder: Path) -> None:
    cases.write(folder, [*made_in(folder), *setups.made_in(folder, shaken)], "theirs.json", limit=1e-4)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
