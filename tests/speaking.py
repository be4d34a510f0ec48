"""Folders of tiny bases with a tokenizer: what data is made into examples for."""

from __future__ import annotations

import functools
from pathlib import Path

import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END, START = "<|im_end|>", "<|im_start|>"
#: As SmolLM2's: each turn is written without a look at what follows.
TURNS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: Only the last turn is written whole, as some templates do with thoughts.
FORGETS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] if loop.last else '...') "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = ["the cat sat on the mat", "What is the capital of France? Paris.", "user assistant system tool 0123456789"]


@functools.cache
def _bytes() -> Tokenizer:
    """Pairs of bytes as GPT-2's, learned from a few words."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS * 4, trainer)
    return made


def tokenizer(template: str | None = TURNS, pad: str | None = "<pad>") -> t.PreTrainedTokenizerFast:
    found = t.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_bytes().to_str()), bos_token=START, eos_token=END, pad_token=pad
    )
    found.chat_template = template
    return found


def encoder_tokenizer() -> t.PreTrainedTokenizerFast:
    """With tokens around a text and between two, as BERT's."""
    inner = Tokenizer.from_str(_bytes().to_str())
    ends = [(START, inner.token_to_id(START)), (END, inner.token_to_id(END))]
    inner.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", pair=f"{START} $A {END} $B:1 {END}:1", special_tokens=ends
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return t.PreTrainedTokenizerFast(
        tokenizer_object=inner, cls_token=START, sep_token=END, pad_token="<pad>", model_input_names=names
    )


SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama(folder: Path, template: str | None = TURNS) -> Path:
    t.LlamaForCausalLM(t.LlamaConfig(**SIZES, num_key_value_heads=2)).save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    return folder


def bert(folder: Path) -> Path:
    t.BertModel(t.BertConfig(**SIZES)).save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return folder


def t5(folder: Path) -> Path:
    small = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 320}
    ends = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}
    t.T5ForConditionalGeneration(t.T5Config(**small, **ends)).save_pretrained(folder)
    tokenizer(None).save_pretrained(folder)
    return folder


def vit(folder: Path) -> Path:
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    t.ViTModel(t.ViTConfig(**small, image_size=16, patch_size=8)).save_pretrained(folder)
    t.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def whisper(folder: Path) -> Path:
    config = t.WhisperConfig(
        vocab_size=320,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_mel_bins=8,
        max_source_positions=50,
        max_target_positions=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    t.WhisperForConditionalGeneration(config).save_pretrained(folder)
    t.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    tokenizer(None).save_pretrained(folder)
    return folder
