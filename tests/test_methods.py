"""Every law x every method x four architectures (grouped heads without biases, Conv1D, biases, two stacks)."""

from __future__ import annotations

from typing import Any

import pytest

import adaptr
import tiny
from adaptr import plugins
from adaptr.errors import TargetNotFound, Unsupported
from adaptr.testing import Laws

MODELS = ("llama", "gpt2", "bert", "t5")
#: Models that have nothing for a method to change, or two sequences where it knows one.
IMPOSSIBLE = {("llama", "bitfit"): TargetNotFound, ("t5", "bitfit"): TargetNotFound, ("t5", "xlora"): Unsupported}


def _laws(architecture: str, name: str) -> type[Laws]:
    class Of(Laws):
        method = name
        compiles = architecture in {"llama", "bert"}  # tracing two stacks takes seconds and shows nothing new

        def model(self) -> Any:
            return tiny.model(architecture)

        def inputs(self) -> Any:
            return tiny.inputs(architecture)

    Of.__name__ = Of.__qualname__ = f"Test_{architecture}_{name}".replace("-", "_")
    return Of


for _architecture in MODELS:
    for _name in plugins.names():
        if (_architecture, _name) not in IMPOSSIBLE:
            _made = _laws(_architecture, _name)
            globals()[_made.__name__] = _made


@pytest.mark.parametrize(("architecture", "name"), sorted(IMPOSSIBLE))
def test_a_model_with_nothing_to_change_is_refused(architecture: str, name: str) -> None:
    laws = _laws(architecture, name)()
    with pytest.raises(IMPOSSIBLE[architecture, name]):
        adaptr.attach(laws.model(), laws.fresh(laws.model()))
