"""Tiny models of random weights, and as GGUF files by llama.cpp's own converter, whose word it is what weights become.

    python bases.py NAME OUT.gguf      # apart, as the converter brings a `gguf` of its own

The converter is in the source distribution of llama-cpp-python, which is downloaded once and not built. Its models have
a vocabulary of bytes, each of which prints as text: llama.cpp's server gives no probabilities of others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers as t

#: The source with the converter, and where it is in it.
SOURCE, INSIDE = "llama-cpp-python==0.3.36", "/vendor/llama.cpp/"
WIDTH, VOCAB = 48, 262
SIZES = {"hidden_size": WIDTH, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 6,
         "num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 128, "pad_token_id": 0}  # fmt: skip
MAKERS: dict[str, Any] = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES)),
}


def made(name: str) -> Any:
    """The model `name`, the same values each time, large enough that every layer is heard in the outputs."""
    torch.manual_seed(0)
    model = MAKERS[name]().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return model


def written(name: str, out: Path) -> None:
    """The model `name` as a GGUF file of fp32, written by another process."""
    subprocess.run([sys.executable, __file__, name, out], check=True, stdout=subprocess.DEVNULL)


def _write(model: Any, out: Path) -> None:
    sys.path[:0] = [str(_converter()), str(_converter() / "gguf-py")]
    import conversion
    import gguf

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
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
    """The Python files of llama.cpp."""
    for member in archive:
        inner = member.name.partition(INSIDE)[2]
        if inner.endswith(".py"):
            member.name = inner
            archive.extract(member, root, filter="data")


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
    _write(made(sys.argv[1]), Path(sys.argv[2]))
