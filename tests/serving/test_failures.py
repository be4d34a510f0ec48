"""Each adapter that people had trouble with at servers is classified as it went."""

from __future__ import annotations

import pytest

from serving.failures import DENSE, FAILURES, INNER, QWEN3_5, QWEN3_VL, TEXT, Failure
from serving.folders import blocks, judged, lora


def test_there_are_thirty_that_failed() -> None:
    failed = [one.thread for one in FAILURES if one.verdicts != {"applied"}]
    assert len(failed) == len(set(failed)) >= 30


@pytest.mark.parametrize("failure", FAILURES, ids=[one.thread for one in FAILURES])
def test_it_is_classified_as_it_went(failure: Failure) -> None:
    found = judged(failure.server, failure.tensors, failure.base, options=failure.told, **failure.config)
    assert {one.verdict for one in found} == failure.verdicts
    assert failure.rule in {one.rule for one in found}


def test_the_silent_ones_of_one_name_apply_under_the_other() -> None:
    """Each text adapter that a server of several parts ignores is applied where its keys name the part."""
    for base in (QWEN3_VL, QWEN3_5, "Gemma3ForConditionalGeneration"):
        assert {one.verdict for one in judged("vllm", lora(blocks(INNER, DENSE)), base)} == {"applied"}
    assert {one.verdict for one in judged("vllm", lora(blocks(TEXT, DENSE)), "Qwen2VLForConditionalGeneration")} == {
        "applied"
    }
