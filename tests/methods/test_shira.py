"""SHiRA's places are data: those outside the weight, or out of order, are refused."""

from __future__ import annotations

import pytest
import torch

from adaptr import plugins
from adaptr.errors import InputError


@pytest.mark.parametrize("places", [[0, 12], [-1, 3], [5, 5], [7, 2], [0.0, 1.0], [2**40, 2**41]])
def test_places_that_no_weight_has(places: list[float]) -> None:
    shira = plugins.method("shira")
    config = shira.config({"n": 2, "rows": 3, "cols": 4})
    with pytest.raises(InputError, match="places"):
        shira.delta({"i": torch.tensor(places), "v": torch.ones(2)}, config)  # type: ignore[attr-defined]
