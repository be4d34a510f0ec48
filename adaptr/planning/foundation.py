"""A base as planning knows it: its configuration, and its model without weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.adapter import public
from adaptr.checkpoint.architectures import drawn
from adaptr.checkpoint.built import imagined
from adaptr.checkpoint.skeleton import described
from adaptr.errors import CheckpointError
from adaptr.sources.resolve import Source, resolve
from adaptr.untrusted import json_file

Given = str | os.PathLike[str] | Source | Mapping[str, Any]
#: What configurations call their width and depth.
WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "hidden_sizes", "embed_dims")
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "depths", "num_encoder_blocks")


@dataclass(frozen=True, eq=False)
class Foundation:
    """`model`: a `Sketch`, or a module on the meta device, and then `built` says why."""

    name: str
    config: Mapping[str, Any]
    model: Any
    built: str = ""

    def said(self, *names: str) -> Any:
        """The first of these fields that the configuration has, that of a language part too; None for none."""
        nested = self.config.get("text_config")
        for config in (self.config, nested if isinstance(nested, Mapping) else {}):
            found = next((config[name] for name in names if config.get(name) is not None), None)
            if found is not None:
                return found
        return None


def foundation(base: Given) -> Foundation:
    """`base`: a folder, a reference, a `config.json` itself, or what is in one. No weights are looked for.

    Raises `CheckpointError` where the configuration is none, or has no sizes; `MissingExtra` where only transformers
    knows the architecture and is not installed.
    """
    config = _config(base)
    name = "" if isinstance(base, Mapping) else str(base)
    _require_sizes(config, name or "the configuration")
    sketch = drawn(config)
    if sketch is not None:
        return Foundation(name, config, sketch)
    kind = (config.get("architectures") or [config["model_type"]])[0]
    reason = f"adaptr has no table of `{kind}`, so transformers built it on the meta device"
    return Foundation(name, config, imagined(config), reason)


def called(found: Foundation) -> str:
    """What a base is called where it must not say where it lay."""
    return public.name(found.name)


def _config(base: Given) -> Mapping[str, Any]:
    if isinstance(base, Mapping):
        return base
    path = resolve(base).path
    if Path(path).is_file():
        return json_file(Path(path), CheckpointError)
    return described(path)


def _require_sizes(config: Mapping[str, Any], name: str) -> None:
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(
            f"`{name}` has no `model_type`", hint="give the `config.json` of a model of transformers, or its folder"
        )
    if any(isinstance(value, Mapping) for key, value in config.items() if key.endswith("_config")):
        return  # of several modes: each part has sizes of its own, or its class's
    for what, names in (("width", WIDTHS), ("depth", DEPTHS)):
        if not any(config.get(one) for one in names):
            raise CheckpointError(
                f"`{name}` says no {what}",
                want=f"one of {', '.join(names[:4])}",
                hint=f"write it there: else transformers takes that of some `{config['model_type']}`",
            )
