"""The functions of the package and the rooms they are in: a table of names, whose signatures and words are there."""

from __future__ import annotations

from typing import Any

#: Function to its room.
HOME = {
    "load": "adaptr.sources.disk",
    "source": "adaptr.sources.resolve",
    "save": "adaptr.sources.disk",
    "create": "adaptr.runtime.attaching",
    "attach": "adaptr.runtime.attaching",
    "block": "adaptr.runtime.arranged",
    "from_peft": "adaptr.handing.peft",
    "to_peft": "adaptr.handing.peft",
    "train": "adaptr.runtime.attaching",
    "bake": "adaptr.runtime.baking",
    "bake_file": "adaptr.runtime.bake_file",
    "quantize": "adaptr.converting.quantize",
    "plan": "adaptr.planning.plan",
    "checkpointing": "adaptr.host.call",
    "stack": "adaptr.runtime.stack",
    "pool": "adaptr.runtime.pool",
    "apply": "adaptr.runtime.apply",
    "chat": "adaptr.runtime.chat",
    "learn": "adaptr.runtime.learn",
    "fit": "adaptr.training.fit",
    "compose": "adaptr.composing.compose",
    "evaluate": "adaptr.evaluating.evaluate",
    "tune": "adaptr.tuning.tune",
    "convert": "adaptr.converting.convert",
    "convert_method": "adaptr.converting.resize",
    "drop": "adaptr.converting.drop",
    "quantize_file": "adaptr.converting.quantize",
    "resize": "adaptr.converting.resize",
    "serve": "adaptr.converting.serving",
    "check": "adaptr.converting.checking",
    "extract": "adaptr.extracting.extract",
    "diff": "adaptr.diffing.diff",
    "merge": "adaptr.merging.merge",
    "unmerge": "adaptr.merging.unmerge",
    "verify": "adaptr.merging.verify",
    "inspect": "adaptr.artifacts.inspect",
    "log": "adaptr.artifacts.history",
    "doctor": "adaptr.artifacts.doctor",
    "pull": "adaptr.artifacts.handling",
    "push": "adaptr.artifacts.handling",
    "tag": "adaptr.artifacts.handling",
    "list": "adaptr.artifacts.handling",
    "search": "adaptr.artifacts.search",
    "similar": "adaptr.artifacts.similar",
    "sign": "adaptr.artifacts.trust",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in HOME:
        raise AttributeError(f"module `adaptr.api` has no attribute `{name}`")
    return getattr(importlib.import_module(HOME[name]), name)
