"""Every law x every method x four architectures (grouped heads without biases, Conv1D, biases, two stacks)."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import adaptr
import tiny
from adaptr import plugins
from adaptr.errors import TargetNotFound, Unsupported
from adaptr.testing import Laws

MODELS = ("llama", "gpt2", "bert", "t5")


@functools.cache
def _refused(architecture: str, name: str) -> str:
    """Why a model can't have a method: it has nothing for it to change, or two sequences where that knows one."""
    laws: Any = _laws(architecture, name)()
    try:
        adaptr.attach(laws.model(), laws.fresh(laws.model()))
    except (TargetNotFound, Unsupported) as refusal:
        return str(refusal)
    return ""


def _laws(architecture: str, name: str) -> type[Laws]:
    class Of(Laws):
        method = name
        compiles = architecture == "llama"  # tracing takes seconds, and that of other layers shows nothing new

        @pytest.fixture(autouse=True)
        def _fits(self) -> None:
            if _refused(architecture, name):
                pytest.skip(_refused(architecture, name))

        def model(self) -> Any:
            return tiny.model(architecture)

        def inputs(self) -> Any:
            return tiny.inputs(architecture)

    Of.__name__ = Of.__qualname__ = f"Test_{architecture}_{name}".replace("-", "_")
    return Of


for _architecture in MODELS:
    for _name in plugins.names():
        _made = _laws(_architecture, _name)
        globals()[_made.__name__] = _made


@pytest.mark.parametrize("name", plugins.names())
def test_a_method_fits_most_models_and_says_why_it_does_not_fit_the_others(name: str) -> None:
    fits = [architecture for architecture in MODELS if not _refused(architecture, name)]
    assert len(fits) >= 2 or fits == ["t5"], "what is for encoder-decoders is for the one that is here"
