"""Tiny models of random weights, and as GGUF files by llama.cpp's own converter, whose word it is what weights become.

    python bases.py FOLDER      # apart, as the converter brings a `gguf` of its own

The converter is in the source distribution of llama-cpp-python, which is downloaded once and not built. Its models have
a vocabulary of bytes, each of which prints as text: llama.cpp's server gives no probabilities of others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import transformers as t

#: The source with the converter, and where it is in it.
SOURCE, INSIDE = "llama-cpp-python==0.3.36", "/vendor/llama.cpp/"
WIDTH, VOCAB = 48, 262
SIZES = {"hidden_size": WIDTH, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 6,
         "num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 128, "pad_token_id": 0}  # fmt: skip
BLOCKS = {"num_hidden_layers": 2, "vocab_size": VOCAB}
SMALL = {**BLOCKS, "hidden_size": WIDTH, "pad_token_id": 0}
#: What blocks of 256 fit into.
WIDE = {**SIZES, "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8}
MAKERS: dict[str, Any] = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES)),
    "llama-wide": lambda: t.LlamaForCausalLM(t.LlamaConfig(**WIDE)),
    "llama-tied": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**SIZES, head_dim=8)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**SIZES)),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**SIZES, head_dim=8)),
    "gemma": lambda: t.GemmaForCausalLM(t.GemmaConfig(**SIZES, head_dim=8)),
    "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**SIZES, head_dim=8, query_pre_attn_scalar=8)),
    "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**SIZES, head_dim=8, query_pre_attn_scalar=8)),
    "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**SIZES, original_max_position_embeddings=128, eos_token_id=2)),
    "gpt2": lambda: t.GPT2LMHeadModel(
        t.GPT2Config(n_embd=WIDTH, n_layer=2, n_head=6, n_positions=128, n_ctx=128, vocab_size=VOCAB, eos_token_id=2)
    ),
    "bloom": lambda: t.BloomForCausalLM(t.BloomConfig(vocab_size=VOCAB, hidden_size=WIDTH, n_layer=2, n_head=6)),
    "falcon": lambda: t.FalconForCausalLM(t.FalconConfig(**SMALL, num_attention_heads=6, num_kv_heads=1)),
    "falcon-new": lambda: t.FalconForCausalLM(
        t.FalconConfig(**SMALL, num_attention_heads=6, num_kv_heads=2, new_decoder_architecture=True)
    ),
}


def made(name: str) -> Any:
    """The model `name`, the same values each time, large enough that every layer is heard in the outputs."""
    torch.manual_seed(0)
    model = MAKERS[name]().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return model


class _Gelu(torch.nn.Module):
    """GELU as llama.cpp computes it on CPUs: looked up in a table of fp16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x >= 10, x, torch.where(x <= -10, 0, found))


def as_there(model: Any) -> Any:
    """`model` with the activations that llama.cpp has."""
    for path, module in list(model.named_modules()):
        owner, _, name = path.rpartition(".")
        if "gelu" in type(module).__name__.lower():
            setattr(model.get_submodule(owner), name, _Gelu())
    return model


def written(folder: Path) -> None:
    """Every model as a GGUF file of fp32, `<name>.gguf`, written by another process."""
    subprocess.run([sys.executable, __file__, folder], check=True, stdout=subprocess.DEVNULL)


def _write(model: Any, out: Path) -> None:
    sys.path[:0] = [str(_converter()), str(_converter() / "gguf-py")]
    import conversion
    import gguf

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        counted = {"model": {"vocab": dict.fromkeys(map(str, range(VOCAB)), 0)}, "added_tokens": []}
        (Path(folder) / "tokenizer.json").write_text(json.dumps(counted))  # Gemma's embeddings are cut to so many
        said = conversion.ModelBase.load_hparams(Path(folder), False)
        of = conversion.get_model_class(conversion.get_model_architecture(said, conversion.ModelType.TEXT))
        spoken = type("Bytes", (of,), {"set_vocab": _vocabulary, "model_arch": of.model_arch})
        spoken(Path(folder), gguf.LlamaFileType.ALL_F32, out).write()


def _converter() -> Path:
    """The folder with the converter's package and its own gguf."""
    root = Path(os.environ["ADAPTR_ORACLES"]) / SOURCE
    if not (root / "ready").exists():
        with tempfile.TemporaryDirectory() as folder:
            how = ["--quiet", "--no-deps", "--no-binary", SOURCE.partition("=")[0]]
            subprocess.run([sys.executable, "-m", "pip", "download", *how, "--dest", folder, SOURCE], check=True)
            with tarfile.open(next(Path(folder).iterdir())) as archive:
                _extract(archive, root)
        (root / "ready").touch()
    return root


def _extract(archive: tarfile.TarFile, root: Path) -> None:
    """The Python files of llama.cpp. Written here, as tar files are extracted safely from Python 3.11.4 on alone."""
    for member in archive:
        inner = PurePosixPath(member.name.partition(INSIDE)[2])
        if inner.suffix != ".py" or not member.isfile() or ".." in inner.parts or inner.is_absolute():
            continue
        content = archive.extractfile(member)
        assert content is not None
        (root / inner).parent.mkdir(parents=True, exist_ok=True)
        (root / inner).write_bytes(content.read())


def _vocabulary(self: Any) -> None:
    """SentencePiece's, of bytes that print as text."""
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{i:02X}>".encode() for i in range(256)), b"a", b"b", "\u2581".encode()]
    writer = self.gguf_writer
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * VOCAB)
    writer.add_token_types([2, 3, 3] + [1] * (VOCAB - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)


if __name__ == "__main__":
    for name in MAKERS:
        _write(made(name), Path(sys.argv[1], f"{name}.gguf"))
