"""The page of a training, as text and in a browser."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from adaptr.adapter import Adapter
from adaptr.cli import train_page
from adaptr.training.report import Curves, Sample, TrainingReport
from browser import browse, needs_browser

TARGETS = [f"model.layers.{layer}.self_attn.{name}_proj" for layer in range(3) for name in "qv"]
REPORT = TrainingReport(
    out="/somewhere/style.safetensors",
    adapter=Adapter("lora", {}, {}, {}),
    base="/somewhere/smollm2",
    architecture="LlamaForCausalLM",
    method="lora",
    task="lm",
    device="cpu",
    dtype="fp32",
    processes=1,
    recipe={"method": "lora", "config": {"r": 8}, "rate": 0.001, "map": {}, "pack": False},
    recipe_digest="sha256:" + "a" * 64,
    data={"data": "sha256:" + "b" * 64},
    versions={"torch": "2.13.0"},
    parameters=1000,
    parameters_of_base=100_000,
    targets=6,
    steps=4,
    tokens=1234,
    curves=Curves(
        (1, 2, 3, 4), (3.0, 2.5, 2.0, 1.5), (0.4, 0.3, 0.2, 0.1), (1.0, None, 1.0, 1.0), (None,) * 4, ((4, 1.9),)
    ),
    moved=dict.fromkeys(TARGETS, 0.25),
    before={"loss": 3.1, "accuracy": None},
    after={"loss": 1.7, "accuracy": None},
    measured_on=10,
    held_out=True,
    second_before={"perplexity": 20.0},
    second_after={"perplexity": 21.0},
    samples=(Sample("a.jsonl:3", "</script><b>who?", "me", "you", "me"),),
    statistics={"records": 90, "cut_tokens": 12, "labels": []},
    notes=("11 examples are cut",),
    command="adaptr train smollm2 --data a.jsonl -o style.safetensors",
    bytes=2_000_000,
    digest="sha256:" + "d" * 64,
    seconds=65.0,
)


pytest.importorskip("vl_convert", reason="no vl-convert to make the page with")


def shown(page: str) -> dict[str, object]:
    """The data in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, object] = json.loads(found[1])
    return data


def test_it_says_names_and_no_folders() -> None:
    page = train_page.page(REPORT)
    assert "/somewhere" not in page
    data = shown(page)
    assert data["name"] == "style.safetensors"
    assert data["recipe"] == [["method", "lora"], ["config", "r: 8"], ["rate", "0.001"], ["pack", "no"]]
    assert data["statistics"] == [["records", "90"], ["cut tokens", "12"]]
    assert data["worth"] == [
        ["loss", 3.1, 1.7, False],
        ["accuracy", None, None, False],
        ["perplexity", 20.0, 21.0, True],
    ]


def test_what_a_record_says_can_not_end_its_script() -> None:
    page = train_page.page(REPORT)
    assert "</script><b>who?" not in page
    assert shown(page)["samples"] == [
        {"place": "a.jsonl:3", "asked": "</script><b>who?", "wanted": "me", "before": "you", "after": "me"}
    ]


def test_the_same_report_gives_the_same_page() -> None:
    assert train_page.page(REPORT) == train_page.page(dataclasses.replace(REPORT))


@needs_browser
@pytest.mark.parametrize("curves", [REPORT.curves, Curves()])
def test_a_browser_draws_it(tmp_path: Path, curves: Curves) -> None:
    file = tmp_path / "page.html"
    file.write_text(train_page.page(dataclasses.replace(REPORT, curves=curves)), encoding="utf-8")
    dom = browse(file, tmp_path / "profile", "--dump-dom")
    assert dom.count("<svg") >= (3 if curves.steps else 1)
    assert "1,000" in dom
    assert "who?" in dom
    assert "-1.400" in dom, "the difference of the loss"
