"""One adapter that somebody had trouble with at a server, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from serving.folders import ATTENTION, FEED, WIDTH, lora

TEXT, INNER = "model.layers", "model.language_model.layers"
DENSE = ATTENTION + FEED
QWEN3_VL, QWEN3_5 = "Qwen3VLForConditionalGeneration", "Qwen3_5ForConditionalGeneration"
QWEN3_5_MOE = "Qwen3_5MoeForConditionalGeneration"
ONE, EXPERTS = "model.layers.0.self_attn.q_proj", "mlp.experts"
STACKED = {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}


@dataclass(frozen=True)
class Failure:
    """`verdicts`: those on any of its tensors, `rule`: what decides, `config`: the adapter's, `told`: the server's."""

    thread: str
    server: str
    base: str
    tensors: dict[str, tuple[int, ...]]
    verdicts: set[str]
    rule: str
    config: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)


def of(thread: str, server: str, base: str, modules: list[str], verdict: str, rule: str, **said: Any) -> Failure:
    return Failure(thread, server, base, lora(modules), {verdict}, rule, **said)


def extra(*keys: str, shape: tuple[int, ...] = (WIDTH,)) -> dict[str, tuple[int, ...]]:
    return lora([ONE]) | dict.fromkeys(keys, shape)
