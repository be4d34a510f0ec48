"""What is written for AdapterHub, and what has no place there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr.testing.samples import tiny_llama
from adaptr_formats.adapterhub.written.bottleneck import _factor
from hub_folders import pair, saved


def test_what_the_base_is_must_be_known_to_write(tmp_path: Path) -> None:
    found = adaptr.load(saved(tmp_path / "a", pair()))
    with pytest.raises(e.ConfigMissing, match=r"which layers a base has.*`base=`"):
        foreign.get("adapterhub").write(found, tmp_path / "out")


@pytest.mark.parametrize(
    ("method", "targets", "config", "error", "match"),
    [
        ("lora", ["o_proj"], {}, e.Unsupported, "`self_attn.o_proj` is where AdapterHub has no LoRA"),
        ("lora", ["lm_head"], {}, e.Unsupported, "`lm_head` is in no layer"),
        ("lora", ["re:.*0.self_attn.q_proj", "re:.*1.self_attn.v_proj"], {}, e.Unsupported, "same modules in every"),
        ("ia3", ["down_proj"], {}, e.Unsupported, "scales outputs, and this an input"),
        ("parallel", None, {}, e.Unsupported, "reads `model.layers.0.mlp`, and AdapterHub's"),
        ("prefix", None, {"position_offset": "shift"}, e.Unsupported, "`position_offset` shift"),
        ("loreft", None, {}, e.Unsupported, "finish its training"),
        ("vera", None, {}, e.Unsupported, "AdapterHub has no equivalent of `vera`"),
    ],
)
def test_what_has_no_place_there_is_refused(
    method: str, targets: Any, config: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    model = tiny_llama()
    form = foreign.get("adapterhub")
    with pytest.raises(error, match=match):
        form.write(form.based(adaptr.create(model, method, targets, **config), model), tmp_path / "out")


def test_sizes_are_what_a_width_is_divided_by() -> None:
    for width in (40, 48, 768, 1000):
        for m in range(1, width + 1, 1 + width // 50):
            assert int(width // _factor(width, m)) == m
