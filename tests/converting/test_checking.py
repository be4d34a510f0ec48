"""What a server would make of an adapter: of a PEFT folder as it is, of another file as it would be converted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import adaptr
import tiny
from adaptr.errors import UsageError
from adaptr.testing import shaken


def written(folder: Path, patterns: Any, method: str = "lora", **config: Any) -> Path:
    """An adaptr file for the tiny llama, and beside it what PEFT has of it."""
    one = shaken(adaptr.create(tiny.model("llama"), method, patterns, **config))
    adaptr.save(one, folder / "a.safetensors")
    adaptr.convert(folder / "a.safetensors", folder / "peft", to="peft")
    return folder


def test_a_folder_is_judged_as_it_is_and_a_file_as_peft_has_it(tmp_path: Path) -> None:
    model = tiny.model("llama")
    written(tmp_path, ["attn.q", "mlp.down"], r=4)
    folder = adaptr.check(tmp_path / "peft", "vllm@0.28", model)
    file = adaptr.check(tmp_path / "a.safetensors", "vllm@0.28", model)
    assert (folder.ok, folder.written, file.written) == (True, False, True)
    assert folder.counts == {"applied": 8}
    assert folder.verdicts == file.verdicts
    assert (folder.server, folder.version, folder.base) == ("vllm", "vLLM 0.28", "LlamaForCausalLM")
    assert "--max-lora-rank 8" in folder.needs
    report = folder.as_dict()
    assert len(report["tensors"]) == 8
    assert json.dumps(report)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    """LoRAX wants a kind of layer in each block, SGLang a value beside a query."""
    model = tiny.model("llama")
    written(tmp_path, ["*.layers.*.q_proj", "*.layers.0.*.v_proj"], r=2)
    for server, verdict in (("lorax", "ignored"), ("sglang", "refused"), ("vllm", "applied")):
        found = adaptr.check(tmp_path / "peft", server, model)
        assert verdict in found.counts, (server, found.counts)
        assert found.ok == (server == "vllm")


def test_without_a_base_no_place_is_known(tmp_path: Path) -> None:
    written(tmp_path, "attn.q", r=2)
    found = adaptr.check(tmp_path / "peft", "vllm")
    assert set(found.counts) == {"unknown"}
    assert found.ok
    assert "base" in found.verdicts[0].says


def test_dora_is_refused_and_says_by_whom(tmp_path: Path) -> None:
    written(tmp_path, "attn.q", "dora", r=2)
    found = adaptr.check(tmp_path / "peft", "vllm", tiny.model("llama"))
    assert set(found.counts) == {"refused"}
    assert any("vllm-project/vllm" in source for one in found.verdicts for source in one.sources)


def test_mistakes(tmp_path: Path) -> None:
    written(tmp_path, "attn.q", r=2)
    for on, options, says in (
        ("triton", {}, "triton"),
        ("ollama", {}, "GGUF"),
        ("vllm@0.1", {}, r"0\.10"),
        ("vllm@new", {}, "new"),
        ("vllm", {"max_rank": 4}, "max_rank"),
    ):
        with pytest.raises(UsageError, match=says):
            adaptr.check(tmp_path / "peft", on, options=options)


def test_a_newer_version_than_was_read_is_said(tmp_path: Path) -> None:
    written(tmp_path, "attn.q", r=2)
    assert adaptr.check(tmp_path / "peft", "vllm@99", tiny.model("llama")).beyond


@pytest.mark.parametrize("server", ["vllm", "sglang", "lorax", "tgi", "tensorrt-llm"])
def test_what_is_written_for_a_server_is_applied(tmp_path: Path, server: str) -> None:
    model = tiny.model("llama")
    written(tmp_path, ["attn.q", "mlp.down"], r=4, rslora=True)
    adaptr.serve(tmp_path / "a.safetensors", tmp_path / "served", server, base=model)
    found = adaptr.check(tmp_path / "served", server, model)
    assert Counter(found.counts)["applied"] == len(found.verdicts)
