"""PEFT folders as servers see them, made of the names that threads show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adaptr.serving.judge import Verdict, judge
from adaptr.serving.profile import profile
from adaptr.serving.seen import Base, Seen

RANK, WIDTH = 8, 32
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
FEED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def lora(modules: Iterable[str], rank: int = RANK, prefix: str = "base_model.model.") -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the factors of modules."""
    found: dict[str, tuple[int, ...]] = {}
    for path in modules:
        found |= {
            f"{prefix}{path}.lora_A.weight": (rank, WIDTH),
            f"{prefix}{path}.lora_B.weight": (WIDTH, rank),
        }
    return found


def config(**fields: Any) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 16,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
        **fields,
    }


def blocks(stem: str, ends: Iterable[str], layers: Iterable[int] = (0, 1)) -> list[str]:
    return [f"{stem}.{number}.{end}" for number in layers for end in ends]


def judged(
    server: str,
    tensors: dict[str, tuple[int, ...]],
    base: str | None = "LlamaForCausalLM",
    *,
    files: Iterable[str] = (),
    options: dict[str, Any] | None = None,
    **fields: Any,
) -> list[Verdict]:
    """The verdicts on a folder, `base` being of two layers."""
    known = None if base is None else Base(base, 2)
    return judge(Seen(config(**fields), tensors, frozenset(files)), profile(server), known, options)


def verdicts(found: Iterable[Verdict]) -> set[str]:
    return {one.verdict for one in found}
