"""adaptr: adapters for language models as artifacts: one format, one contract, one algebra.

Names are resolved when first used, so that importing adaptr costs nothing. `adaptr.load`, `save`, `convert`, `merge`
... are the commands as functions; `Method` families, `Param` and `LowRank` are what method plugins are made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr import evaluator
from adaptr.version import __version__

_HOME = {
    # values
    "Adapter": "adaptr.adapter",
    "Base": "adaptr.adapter",
    "Target": "adaptr.adapter",
    "Param": "adaptr.params",
    "View": "adaptr.view",
    # families, for plugins
    "Method": "adaptr.families.base",
    "Delta": "adaptr.families.delta",
    "Transform": "adaptr.families.transform",
    "Insert": "adaptr.families.insert",
    "SoftPrompt": "adaptr.families.prompt",
    "Prefix": "adaptr.families.prompt",
    "SelectBias": "adaptr.families.select",
    "Gate": "adaptr.families.gate",
    "Composite": "adaptr.families.composite",
    "Row": "adaptr.families.row",
    # operators
    "Operator": "adaptr.algebra.operator",
    "LowRank": "adaptr.algebra.lowrank",
    "Kron": "adaptr.algebra.kron",
    "Hadamard": "adaptr.algebra.hadamard",
    "Sparse": "adaptr.algebra.sparse",
    "Diagonal": "adaptr.algebra.diagonal",
    "Dense": "adaptr.algebra.dense",
    "Sum": "adaptr.algebra.sum",
    "Core": "adaptr.algebra.core",
    # strategies, for plugins
    "Strategy": "adaptr.strategies.base",
    "InCore": "adaptr.strategies.core",
    "Elementwise": "adaptr.strategies.elementwise",
    "Whole": "adaptr.strategies.whole",
    # operations
    "load": "adaptr.api",
    "save": "adaptr.api",
    "create": "adaptr.api",
    "attach": "adaptr.api",
    "train": "adaptr.api",
    "quantize": "adaptr.api",
    "compose": "adaptr.api",
    "inspect": "adaptr.api",
    "convert": "adaptr.api",
    "convert_method": "adaptr.api",
    "diff": "adaptr.api",
    "extract": "adaptr.api",
    "resize": "adaptr.api",
    "merge": "adaptr.api",
    "unmerge": "adaptr.api",
    "verify": "adaptr.api",
    "pull": "adaptr.api",
    "push": "adaptr.api",
    "checkpointing": "adaptr.host.call",
    "stack": "adaptr.runtime.stack",
    "pool": "adaptr.runtime.pool",
    "Request": "adaptr.runtime.pool",
    "AdaptrError": "adaptr.errors",
}
_MODULES = ("errors", "hookspecs", "plugins", "roles", "strategies", "targets")

__all__ = ["__version__", *_HOME, *_MODULES]

if TYPE_CHECKING:
    from adaptr import errors, hookspecs, plugins, roles, strategies, targets
    from adaptr.adapter import Adapter, Base, Target
    from adaptr.algebra.core import Core
    from adaptr.algebra.dense import Dense
    from adaptr.algebra.diagonal import Diagonal
    from adaptr.algebra.hadamard import Hadamard
    from adaptr.algebra.kron import Kron
    from adaptr.algebra.lowrank import LowRank
    from adaptr.algebra.operator import Operator
    from adaptr.algebra.sparse import Sparse
    from adaptr.algebra.sum import Sum
    from adaptr.api import (
        attach,
        compose,
        convert,
        convert_method,
        create,
        diff,
        extract,
        inspect,
        load,
        merge,
        pull,
        push,
        quantize,
        resize,
        save,
        train,
        unmerge,
        verify,
    )
    from adaptr.errors import AdaptrError
    from adaptr.evaluator import Evaluator
    from adaptr.families.base import Method
    from adaptr.families.composite import Composite
    from adaptr.families.delta import Delta
    from adaptr.families.gate import Gate
    from adaptr.families.insert import Insert
    from adaptr.families.prompt import Prefix, SoftPrompt
    from adaptr.families.row import Row
    from adaptr.families.select import SelectBias
    from adaptr.families.transform import Transform
    from adaptr.host.call import checkpointing
    from adaptr.params import Param
    from adaptr.runtime.pool import Request, pool
    from adaptr.runtime.stack import stack
    from adaptr.strategies.base import Strategy
    from adaptr.strategies.core import InCore
    from adaptr.strategies.elementwise import Elementwise
    from adaptr.strategies.whole import Whole
    from adaptr.view import View


def _evaluator() -> Evaluator:
    from adaptr.composing import evaluating

    return evaluating


evaluator.evaluator = _evaluator


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"adaptr.{name}")
    else:
        raise AttributeError(f"module `adaptr` has no attribute `{name}`")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
