"""Every law of `adaptr.testing.StrategyLaws` x every strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from adaptr import strategies
from adaptr.testing import StrategyLaws
from adaptr.testing.deltas import SHAPES

#: Configurations in which a strategy does to small deltas what it is for.
CONFIG: dict[str, dict[str, Any]] = {
    "ties": {"density": 0.5},
    "knots": {"density": 0.5},
    "breadcrumbs": {"beta": 0.4, "gamma": 0.9},
    "dare": {"density": 0.6},
    "dare-ties": {"density": 0.6},
    "della": {"density": 0.6},
    "iso-cts": {"common": 0.5},
    "lorahub": {"data": "examples.jsonl"},
}
#: With which one input is itself; None for what flattens or clusters also that.
WHOLE: dict[str, dict[str, Any] | None] = {
    **{name: {"density": 1.0} for name in ("ties", "knots", "magnitude-prune", "dare", "dare-ties")},
    "breadcrumbs": {"beta": 0.0, "gamma": 1.0},
    **dict.fromkeys(("iso-c", "iso-cts", "della", "lego")),
}


@pytest.fixture(scope="module")
def grams(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Gram matrices of five inputs, of each width."""
    folder = tmp_path_factory.mktemp("grams")
    g = torch.Generator().manual_seed(0)
    for side in {into for _, into in SHAPES}:
        X = [torch.randn(20, side, generator=g) for _ in range(3)]
        save_file({f"here:{n}": x.T @ x for n, x in enumerate(X)}, folder / f"{side}.safetensors")
    return str(folder)


def _laws(name: str) -> type[StrategyLaws]:
    class Of(StrategyLaws):
        strategy = name
        config = CONFIG.get(name, {})
        whole = WHOLE.get(name, {})
        # tokens have no strength
        strengths = (1.0,) if name == "concat" else StrategyLaws.strengths
        ranks = (2,) if name == "fedex" else StrategyLaws.ranks

    Of.__name__ = Of.__qualname__ = f"Test_{name}".replace("-", "_")
    return Of


class TestRegMean(_laws("regmean")):  # type: ignore[misc]
    @pytest.fixture(autouse=True)
    def _grams(self, grams: str) -> None:
        self.folder = grams

    def options(self) -> Any:
        return {"grams": str(Path(self.folder) / "5.safetensors")}

    def cases(self, *given: Any) -> Any:
        return super().cases(*given).filter(lambda case: case.ops[0].size[1] == 5)


for _name in strategies.SORT.files():
    if _name != "regmean":
        _made = _laws(_name)
        globals()[_made.__name__] = _made
