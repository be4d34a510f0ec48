"""Command lines as the shell runs them, in this process, and small things to run them on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptr import api
from adaptr.adapter import Adapter
from adaptr.cli import run

WORDS = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(60))]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def refused(self) -> tuple[int, str]:
        """Exit code and class of the error that `--json` shows."""
        assert self.err == ""
        error = self.json["error"]
        assert error["exit_code"] == self.code
        return self.code, error["type"]


@pytest.fixture
def adaptr(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def call(*arguments: Any) -> Ran:
        capfd.readouterr()
        code = run([str(a) for a in arguments])
        return Ran(code, *capfd.readouterr())

    return call


def tokenizer() -> Any:
    """Words `w0` to `w59`, for models with a vocabulary of 64."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def saved(kind: str, folder: Path) -> Path:
    """A tiny random model with its tokenizer, as a folder."""
    import tiny

    torch.manual_seed(0)
    model = tiny.MAKERS[kind]()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("bert", tmp_path_factory.mktemp("models") / "bert")


def randomised(base: Path, name: str = "", method: str = "lora", targets: Any = ("attn.q", "attn.v")) -> Adapter:
    """An adapter for the model in a folder, with every tensor random, so that it changes what the model says."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(base)
    model = getattr(transformers, config.architectures[0]).from_pretrained(base)
    adapter = api.create(model, method, list(targets) if targets else None, name=name)
    generator = torch.Generator().manual_seed(0)
    tensors = {key: torch.randn(t.shape, generator=generator) for key, t in adapter.tensors.items()}
    return adapter.replace(tensors=tensors)


@pytest.fixture(scope="session")
def lora(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA for `llama`, as a file."""
    path = tmp_path_factory.mktemp("adapters") / "lora.safetensors"
    api.save(randomised(llama, "style"), path)
    return path


@pytest.fixture(scope="session")
def houlsby(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for `llama` that can't be merged."""
    path = tmp_path_factory.mktemp("adapters") / "houlsby.safetensors"
    api.save(randomised(llama, "inserted", "houlsby", None), path)
    return path


@pytest.fixture(scope="session")
def loras(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two, `style` and `tone`."""
    from transformers import LlamaForCausalLM

    from adaptr.testing import shaken

    folder, model = tmp_path_factory.mktemp("loras"), LlamaForCausalLM.from_pretrained(llama)
    files = [folder / "style.safetensors", folder / "tone.safetensors"]
    for seed, file in enumerate(files):
        api.save(shaken(api.create(model, "lora", r=2), seed, 0.3), file)
    return files
