"""AdapterHub's bottlenecks: which are read, where, and as what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import adaptr
from adaptr import errors as e
from hub_folders import BOTTLENECK, OUTPUT, bottleneck, saved


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        ({"non_linearity": "mish"}, e.Unsupported, "the non-linearity is `mish`"),
        ({"residual_before_ln": "post_add"}, e.Unsupported, "`residual_before_ln`"),
        ({"original_ln_after": False}, e.Unsupported, "`original_ln_after`"),
        ({"use_gating": True, "is_parallel": True}, e.Unsupported, "`use_gating`"),
        ({"use_gating": True, "residual_before_ln": False}, e.Unsupported, "`use_gating`"),
    ],
)
def test_another_bottleneck_is_refused(
    said: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(saved(tmp_path, bottleneck(), {**BOTTLENECK, **said}))


def test_where_a_model_has_its_bottlenecks_is_known_or_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=r"in a model of type `phi`.*it knows"):
        adaptr.load(saved(tmp_path, bottleneck(), BOTTLENECK, model_type="phi"))
    with pytest.raises(e.TensorUnknown, match="no module that has bottlenecks in a model of type `llama`"):
        adaptr.load(saved(tmp_path, bottleneck("model.adapters.mine"), BOTTLENECK))


def test_a_factor_goes_into_the_second_layer(tmp_path: Path) -> None:
    plain, tensors = adaptr.load(saved(tmp_path / "a", bottleneck(), BOTTLENECK)), bottleneck()
    for name, scaling in (("b", 2.0), ("c", None)):
        own = {} if scaling else {f"{OUTPUT}.scaling": torch.full((4,), 2.0)}
        said = {**BOTTLENECK, "scaling": scaling or "channel"}
        found = adaptr.load(saved(tmp_path / name, {**tensors, **own}, said))
        assert found.config == plain.config
        torch.testing.assert_close(found.at("model.layers.0.mlp")["U"], 2 * tensors[f"{OUTPUT}.adapter_up.weight"])


def kronecker(path: str, rules: bool, n: int = 2) -> dict[str, Tensor]:
    """Of a width of 4 and 2 inside: a rule for each projection, or none."""
    sizes = {"adapter_down.0": (2, 1), "adapter_up": (1, 2)}
    found = {f"{path}.adapter_down.0.b": torch.randn(2), f"{path}.adapter_up.b": torch.randn(4)}
    for at, (rows, columns) in sizes.items():
        found |= {f"{path}.{at}.W_left": torch.randn(n, rows, 1), f"{path}.{at}.W_right": torch.randn(n, 1, columns)}
        found |= {f"{path}.{at}.phm_rule": torch.randn(n, n, n)} if rules else {}
    return found


def test_projections_with_rules_of_their_own_are_phm(tmp_path: Path) -> None:
    config = {**BOTTLENECK, "phm_layer": True, "shared_phm_rule": False, "original_ln_before": False}
    tensors = kronecker(OUTPUT, rules=True)
    found = adaptr.load(saved(tmp_path, tensors, config))
    assert found.method == "phm"
    left, right = (tensors[f"{OUTPUT}.adapter_up.W_{side}"] for side in ("left", "right"))
    torch.testing.assert_close(found.at("model.layers.0.mlp")["B_u"], left @ right)


def test_rules_that_are_not_there_can_not_be_had(tmp_path: Path) -> None:
    config = {**BOTTLENECK, "phm_layer": True, "shared_phm_rule": True}
    with pytest.raises(e.TensorAbsent, match="no `phm_rule`, which all its layers share"):
        adaptr.load(saved(tmp_path, kronecker(OUTPUT, rules=False), config))
