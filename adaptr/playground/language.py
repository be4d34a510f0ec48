"""A tiny base of Llama's kind with its tokenizer, and what people have beside one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.playground import records

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SIZES = {
    "vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SPECIAL = ("<pad>", "<|im_start|>", "<|im_end|>")
TURNS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: The adapters by name, with the roles that they are on.
ADAPTERS = {"style": ["attn.q", "attn.v"], "tone": ["attn.q", "attn.v", "mlp.down"]}


def make(folder: Path) -> list[Path]:
    """`base`, `tuned`, `style.safetensors`, `tone.safetensors`, `style-peft`, and the records."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    import adaptr

    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
        _saved(model, folder / "base")
        model = LlamaForCausalLM.from_pretrained(folder / "base")
        made = [folder / "base", *(_adapter(model, folder, name) for name in ADAPTERS), folder / "style-peft"]
        adaptr.convert(folder / "style.safetensors", made[-1], to="peft", force=True)
        _moved(model)
        _saved(model, folder / "tuned")
    return [*made, folder / "tuned", *records.make(folder)]


def tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, as GPT-2's without merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    named = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    found = PreTrainedTokenizerFast(tokenizer_object=inner, **named)
    found.chat_template = TURNS
    return found


def _saved(model: PreTrainedModel, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def _adapter(model: PreTrainedModel, folder: Path, name: str) -> Path:
    """A LoRA after a few steps on its records."""
    import torch

    import adaptr

    texts = [one["prompt"] + one["completion"] for one in records.TASKS[name]]
    tokens = tokenizer()(texts, return_tensors="pt", padding=True)
    labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
    fresh = adaptr.create(model, "lora", ADAPTERS[name], r=8, seed=len(name), name=name)
    with adaptr.train(model, fresh) as session:
        optimiser = torch.optim.AdamW(session.parameters(), lr=5e-3)
        for _ in range(20):
            model(**tokens, labels=labels).loss.backward()
            optimiser.step()
            session.after_step()
            optimiser.zero_grad()
        adaptr.save(session.adapted(), folder / f"{name}.safetensors", force=True)
    return folder / f"{name}.safetensors"


def _moved(model: PreTrainedModel) -> None:
    """As fine-tuning leaves it: every linear layer by a change of rank 4."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embed" not in name:
                weight += 0.02 * torch.randn(len(weight), 4) @ torch.randn(4, weight.shape[1])
