"""`adaptr check`: the table of what a server makes of an adapter, and the exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def test_the_table_is_of_modules_not_of_tensors(adaptr: Callable, lora: Path, llama: Path) -> None:
    ran = adaptr("check", lora, "--on", "vllm@0.28", "--base", llama)
    assert (ran.code, ran.err) == (0, "")
    assert "vLLM 0.28" in ran.out
    assert ran.out.count("q_proj") == 1
    assert "applied" in ran.out


def test_what_refuses_the_whole_is_said_once(adaptr: Callable, lora: Path, llama: Path) -> None:
    ran = adaptr("check", lora, "--on", "vllm", "--set", "max_lora_rank=1", "--base", llama)
    assert ran.out.count("refused  ") == 1
    assert "all of it" in ran.out


def test_what_is_ignored_or_refused_fails(adaptr: Callable, lora: Path, llama: Path) -> None:
    told = ("--set", "lora_target_modules=qkv_proj", "--base", llama)
    assert adaptr("check", lora, "--on", "vllm", *told).code == 0
    ran = adaptr("check", lora, "--on", "vllm", "--set", "lora_target_modules=down_proj", "--base", llama)
    assert ran.code == 1
    assert "ignored" in ran.out
    assert "vllm-project/vllm" in ran.out


def test_json_is_per_tensor_with_sources(adaptr: Callable, lora: Path, llama: Path) -> None:
    ran = adaptr("check", lora, "--on", "vllm", "--set", "max_lora_rank=1", "--base", llama, "--json")
    assert (ran.code, ran.json["ok"]) == (1, False)
    assert len(ran.json["tensors"]) == sum(ran.json["counts"].values())
    assert {one["verdict"] for one in ran.json["tensors"]} == {"refused"}
    assert all(one["sources"] for one in ran.json["tensors"])


def test_refusals(adaptr: Callable, lora: Path, houlsby: Path) -> None:
    assert adaptr("check", lora, "--on", "triton", "--json").refused == (2, "UsageError")
    assert adaptr("check", lora, "--on", "vllm@0.1", "--json").refused == (2, "UsageError")
    assert adaptr("check", houlsby, "--on", "vllm", "--json").code == 5


def test_convert_for_a_version(adaptr: Callable, lora: Path, llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "served"
    assert adaptr("convert", lora, "--for", "vllm@0.28", "--base", llama, "-o", out).code == 0
    assert adaptr("check", out, "--on", "vllm@0.28", "--base", llama).code == 0
    assert adaptr("convert", lora, "--for", "vllm@0.1", "-o", tmp_path / "x", "--json").refused == (2, "UsageError")
