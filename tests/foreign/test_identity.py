"""One adapter has one weights digest, whatever format it lies in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import adaptr
import tiny
from adaptr import plugins
from adaptr.foreign.peft import types
from adaptr.format import digest
from adaptr.testing import shaken
from adaptr_formats.peft import _variants
from fuzz.readers.adapters import MADE

#: A LoRA beside trained tokens, as PEFT's `trainable_token_indices` has it, under the names that reading gives.
STACKED = {"lora": "lora", "tokens": "trainable-tokens"}
#: What needs biases.
BASE = {"beft": "bert"}
#: What is written from the values of a base.
BASED = {"ln-tuning", "layernorm"}
#: What is written as a LoRA of all its factors together, which is another adapter that does the same.
JOINED = {*_variants.JOINED, "qalora"}
#: What is written as the rows that it computes, by which it is another adapter until it is finished.
COMPUTED = {"cpt", "p-tuning"}
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real"


def made(method: str) -> adaptr.Adapter:
    if method == "stack":
        return adaptr.create(tiny.model("llama"), method, children={name: made(own) for name, own in STACKED.items()})
    said = {"targets": "attn.q", **MADE.get(method, {})}
    return shaken(adaptr.create(tiny.model(BASE.get(method, "llama")), method, **said), 1)


def saved(method: str, where: Path) -> Path:
    adaptr.save(made(method), where / "a.adaptr.safetensors")
    return where / "a.adaptr.safetensors"


@pytest.mark.parametrize("method", [method for method in types.methods() if method not in BASED | JOINED])
def test_a_peft_folder_is_the_adapter_that_it_was_made_of(tmp_path: Path, method: str) -> None:
    own, base = saved(method, tmp_path), tmp_path / "base"
    tiny.model(BASE.get(method, "llama")).save_pretrained(base)
    adaptr.convert(own, tmp_path / "peft", to="peft", base=base if method in {"frod", "psoft"} else None)
    if method in {"vera", "pvera", "randlora"}:  # what they draw from a seed PEFT's file holds, and then ours does
        own = tmp_path / "held.safetensors"
        adaptr.convert(tmp_path / "peft", own, base=base)
    if method in COMPUTED:
        finished = plugins.method(method).materialised(adaptr.load(own))
        own = tmp_path / "finished.safetensors"
        adaptr.save(finished, own)
    adaptr.convert(tmp_path / "peft", tmp_path / "back.safetensors", base=base)
    wanted = digest.of_adapter(adaptr.load(own))
    assert digest.of_adapter(adaptr.load(tmp_path / "peft", base)) == wanted
    assert adaptr.inspect(own).weights_digest == wanted
    assert adaptr.inspect(tmp_path / "back.safetensors").weights_digest == wanted


def test_a_pickle_has_the_identity_of_its_safetensors_twin(tmp_path: Path) -> None:
    import torch

    adaptr.convert(saved("lora", tmp_path), tmp_path / "peft", to="peft")
    wanted = adaptr.inspect(tmp_path / "peft").weights_digest
    weights = tmp_path / "peft" / "adapter_model.safetensors"
    from safetensors.torch import load_file

    torch.save(load_file(weights), tmp_path / "peft" / "adapter_model.bin")
    weights.unlink()
    assert adaptr.inspect(tmp_path / "peft").weights_digest == wanted != ""


def test_one_changed_number_is_another_adapter(tmp_path: Path) -> None:
    own = saved("lora", tmp_path)
    adapter = adaptr.load(own)
    key = next(iter(adapter.tensors))
    other = adapter.tensors[key].clone()
    other.view(-1)[-1] += 1e-3
    changed = adapter.replace(tensors={**adapter.tensors, key: other})
    assert digest.of_adapter(changed) != digest.of_adapter(adapter)


def test_renamed_tensors_are_read_under_their_new_names(tmp_path: Path) -> None:
    adapter = adaptr.load(saved("lora", tmp_path))
    path = next(iter(adapter.targets))
    renamed = adapter.renamed({path: "elsewhere"})
    assert digest.of_adapter(renamed) == digest.of_adapter(renamed.held().replace(tensors=dict(renamed.tensors)))
    assert digest.of_adapter(renamed) != digest.of_adapter(adapter)


def test_the_identity_of_a_peft_folder_needs_no_torch(tmp_path: Path) -> None:
    adaptr.convert(saved("lora", tmp_path), tmp_path / "peft", to="peft")
    code = f"import sys, adaptr; adaptr.inspect({str(tmp_path / 'peft')!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(not REAL.is_dir(), reason="the published adapters are not beside the project")
@pytest.mark.parametrize("name", ["peft-lora-t5small", "peft-ia3-t5-base-bin", "peft-prompt-flan-t5-base"])
def test_published_folders_keep_theirs_through_a_conversion(tmp_path: Path, name: str) -> None:
    adaptr.convert(REAL / name, tmp_path / "own.safetensors")
    assert adaptr.inspect(tmp_path / "own.safetensors").weights_digest == adaptr.inspect(REAL / name).weights_digest
