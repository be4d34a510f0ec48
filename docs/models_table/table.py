"""Which models and which methods, and the file in which what came of them is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("table.jsonl")
#: What each is called in tests/tiny.py, and on the page.
MODELS: Mapping[str, str] = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen 2",
    "qwen3": "Qwen 3",
    "gemma2": "Gemma 2",
    "gemma3": "Gemma 3",
    "phi": "Phi",
    "phi3": "Phi 3",
    "mixtral": "Mixtral",
    "qwen2-moe": "Qwen 2 MoE",
    "qwen3-moe": "Qwen 3 MoE",
    "gpt-oss": "gpt-oss",
    "gpt2": "GPT-2",
    "neox": "GPT-NeoX",
    "bloom": "BLOOM",
    "falcon": "Falcon",
    "opt": "OPT",
    "bert": "BERT",
    "roberta": "RoBERTa",
    "distilbert": "DistilBERT",
    "albert": "ALBERT",
    "modernbert": "ModernBERT",
    "deberta": "DeBERTa",
    "deberta-v2": "DeBERTa 2 and 3",
    "t5": "T5",
    "t5-gated": "T5 1.1",
    "bart": "BART",
    "whisper": "Whisper",
    "vit": "ViT",
    "clip": "CLIP",
}
#: One or two methods of each family, and where they sit.
METHODS: Mapping[str, str] = {
    "lora": "in weights, of attention",
    "houlsby": "at the outputs of attention and feed-forward",
    "parallel": "at the output of the feed-forward, reading its input",
    "prompt": "rows in front of the text",
    "prefix": "keys and values in front of each attention's",
    "llama-adapter": "attention to learnt rows beside each of the last attentions",
    "ladder": "a network beside the blocks",
    "adamix-lora": "in weights, of attention, where each step of training draws an expert",
    "residual-series": "in weights, behind the layers that end attention and feed-forward",
}
