"""Every law x every method, on the first of four architectures that has it; those that the make of a model can break,
on one layer of each other: Conv1D with biases, grouped heads without, biases, two stacks.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

import adaptr
import tiny
from adaptr import plugins
from adaptr.errors import BadConfig, TargetNotFound, Unsupported
from adaptr.testing import Laws
from adaptr.testing.methods import ModelLaws

TEXTS = ("gpt2", "llama", "bert", "t5")
MODELS = (*TEXTS, "resnet")


@functools.cache
def _refused(architecture: str, name: str) -> str:
    """Why a model can't have a method: it has nothing for it to change, or two sequences where that knows one."""
    laws: Any = type("Of", (_On, ModelLaws), {"method": name, "architecture": architecture})()
    try:
        adaptr.attach(laws.model(), laws.fresh(laws.model()))
    except (TargetNotFound, Unsupported) as refusal:
        return str(refusal)
    return ""


def _first(name: str) -> str:
    """The first architecture that has the method."""
    return next(one for one in MODELS if not _refused(one, name))


class _On:
    """Laws on one of the tiny models."""

    architecture: str

    def model(self) -> Any:
        return tiny.biased(self.architecture)

    def inputs(self) -> Any:
        return tiny.inputs(self.architecture)


def _all(name: str) -> type[Laws]:
    class Of(_On, Laws):
        method = name

        @property
        def architecture(self) -> str:  # type: ignore[override]
            return _first(name)

        def compilable(self) -> Any:
            if self.architecture == "resnet":
                return self.model()
            made = tiny.biased("shallow-t5" if self.architecture == "t5" else "shallow-llama-biased")
            try:
                self.fresh(made)
            except BadConfig:  # it wants more rows of all layers together than one has
                return tiny.biased("llama")
            return made

        test_law_11_importing_it_does_not_import_torch = None  # tests/test_startup.py, for all in one process

    return Of


def _others(where: str, name: str) -> type[ModelLaws]:
    class Of(_On, ModelLaws):
        method, architecture = name, f"shallow-{where}"

        @pytest.fixture(autouse=True)
        def _fits(self) -> None:
            if _refused(where, name):
                pytest.skip(_refused(where, name))
            if _first(name) == where:
                pytest.skip(f"all laws of `{name}` are tried on {where}")

    return Of


def _named(made: type[Any], *words: str) -> None:
    made.__name__ = made.__qualname__ = "_".join(["Test", *words]).replace("-", "_")
    globals()[made.__name__] = made


for _name in plugins.names():
    _named(_all(_name), _name)
    for _where in TEXTS[1:]:
        _named(_others(_where, _name), _where, _name)


@pytest.mark.parametrize("name", plugins.names())
def test_a_method_fits_most_models_and_says_why_it_does_not_fit_the_others(name: str) -> None:
    fits = [architecture for architecture in MODELS if not _refused(architecture, name)]
    alone = fits in (["t5"], ["bert"], ["resnet"])
    assert len(fits) >= 2 or alone, "what is for encoder-decoders, biases of values, or images, is for the one here"
