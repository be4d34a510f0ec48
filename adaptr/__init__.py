"""adaptr: adapters for language models as artifacts: one format, one contract, one algebra.

Names are resolved when first used, so that importing adaptr costs nothing. `adaptr.load`, `save`, `convert`, `merge`
... are the commands as functions; `Method` families, `Param` and `LowRank` are what method plugins are made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr import api, arithmetic
from adaptr.version import __version__

_HOME = {
    # values
    "Adapter": "adaptr.adapter",
    "Base": "adaptr.adapter",
    "Target": "adaptr.adapter",
    "Param": "adaptr.contract.params",
    "View": "adaptr.contract.view",
    # families, for plugins
    "Method": "adaptr.families.base",
    "Delta": "adaptr.families.delta",
    "Transform": "adaptr.families.transform",
    "Insert": "adaptr.families.insert",
    "SoftPrompt": "adaptr.families.prompt",
    "Prefix": "adaptr.families.prompt",
    "SelectBias": "adaptr.families.select",
    "Gate": "adaptr.families.gate",
    "Fusion": "adaptr.families.fusion",
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
    **api.HOME,
    "Request": "adaptr.runtime.pool",
    # blocks
    "Stack": "adaptr.host.blocks",
    "Split": "adaptr.host.blocks",
    "BatchSplit": "adaptr.host.blocks",
    "Parallel": "adaptr.host.blocks",
    "Average": "adaptr.host.blocks",
    "AdaptrError": "adaptr.errors",
}
_MODULES = ("errors", "hookspecs", "plugins", "roles", "strategies", "targets")

__all__ = ["__version__", *_HOME, *_MODULES]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptr import errors as errors
    from adaptr import hookspecs as hookspecs
    from adaptr import plugins as plugins
    from adaptr import roles as roles
    from adaptr import strategies as strategies
    from adaptr import targets as targets
    from adaptr.adapter import Adapter as Adapter
    from adaptr.adapter import Base as Base
    from adaptr.adapter import Target as Target
    from adaptr.algebra.core import Core as Core
    from adaptr.algebra.dense import Dense as Dense
    from adaptr.algebra.diagonal import Diagonal as Diagonal
    from adaptr.algebra.hadamard import Hadamard as Hadamard
    from adaptr.algebra.kron import Kron as Kron
    from adaptr.algebra.lowrank import LowRank as LowRank
    from adaptr.algebra.operator import Operator as Operator
    from adaptr.algebra.sparse import Sparse as Sparse
    from adaptr.algebra.sum import Sum as Sum
    from adaptr.arithmetic import Evaluator
    from adaptr.artifacts.doctor import doctor as doctor
    from adaptr.artifacts.handling import list as list
    from adaptr.artifacts.handling import pull as pull
    from adaptr.artifacts.handling import push as push
    from adaptr.artifacts.handling import tag as tag
    from adaptr.artifacts.history import log as log
    from adaptr.artifacts.inspect import inspect as inspect
    from adaptr.artifacts.search import search as search
    from adaptr.artifacts.similar import similar as similar
    from adaptr.artifacts.trust import sign as sign
    from adaptr.composing.compose import compose as compose
    from adaptr.contract import Param as Param
    from adaptr.contract import View as View
    from adaptr.converting.checking import check as check
    from adaptr.converting.convert import convert as convert
    from adaptr.converting.drop import drop as drop
    from adaptr.converting.quantize import quantize as quantize
    from adaptr.converting.quantize import quantize_file as quantize_file
    from adaptr.converting.resize import convert_method as convert_method
    from adaptr.converting.resize import resize as resize
    from adaptr.converting.serving import serve as serve
    from adaptr.diffing.diff import diff as diff
    from adaptr.errors import AdaptrError as AdaptrError
    from adaptr.evaluating.evaluate import evaluate as evaluate
    from adaptr.extracting.extract import extract as extract
    from adaptr.families.base import Method as Method
    from adaptr.families.composite import Composite as Composite
    from adaptr.families.delta import Delta as Delta
    from adaptr.families.fusion import Fusion as Fusion
    from adaptr.families.gate import Gate as Gate
    from adaptr.families.insert import Insert as Insert
    from adaptr.families.prompt import Prefix as Prefix
    from adaptr.families.prompt import SoftPrompt as SoftPrompt
    from adaptr.families.row import Row as Row
    from adaptr.families.select import SelectBias as SelectBias
    from adaptr.families.transform import Transform as Transform
    from adaptr.handing.peft import from_peft as from_peft
    from adaptr.handing.peft import to_peft as to_peft
    from adaptr.host.blocks import Average as Average
    from adaptr.host.blocks import BatchSplit as BatchSplit
    from adaptr.host.blocks import Parallel as Parallel
    from adaptr.host.blocks import Split as Split
    from adaptr.host.blocks import Stack as Stack
    from adaptr.host.call import checkpointing as checkpointing
    from adaptr.merging.merge import merge as merge
    from adaptr.merging.unmerge import unmerge as unmerge
    from adaptr.merging.verify import verify as verify
    from adaptr.planning.plan import plan as plan
    from adaptr.runtime.apply import apply as apply
    from adaptr.runtime.arranged import block as block
    from adaptr.runtime.attaching import attach as attach
    from adaptr.runtime.attaching import create as create
    from adaptr.runtime.attaching import train as train
    from adaptr.runtime.bake_file import bake_file as bake_file
    from adaptr.runtime.baking import bake as bake
    from adaptr.runtime.chat import chat as chat
    from adaptr.runtime.learn import learn as learn
    from adaptr.runtime.pool import Request as Request
    from adaptr.runtime.pool import pool as pool
    from adaptr.runtime.stack import stack as stack
    from adaptr.sources.disk import load as load
    from adaptr.sources.disk import save as save
    from adaptr.sources.resolve import source as source
    from adaptr.strategies.base import Strategy as Strategy
    from adaptr.strategies.core import InCore as InCore
    from adaptr.strategies.elementwise import Elementwise as Elementwise
    from adaptr.strategies.whole import Whole as Whole
    from adaptr.training.fit import fit as fit
    from adaptr.tuning.tune import tune as tune


def _evaluator() -> Evaluator:
    from adaptr.composing import evaluating

    return evaluating


arithmetic.evaluator = _evaluator


def __getattr__(name: str) -> object:
    import importlib

    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"adaptr.{name}")
    else:
        raise AttributeError(f"module `adaptr` has no attribute `{name}`")
    globals()[name] = value
    return value


def __dir__() -> Sequence[str]:
    return sorted(__all__)
