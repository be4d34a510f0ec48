"""Genuine files of other tools, where they are at hand: a folder `formats-refs` beside the published ones."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptr import foreign
from adaptr.errors import AdaptrError
from adaptr.foreign import detect, formats
from formats_table.samples import LIVE, Sample, placed

#: The same folder that tests look in.
SHARED = Path(os.environ.get("ADAPTR_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
ROOT = SHARED / "formats-refs"


@functools.cache
def _model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


@functools.cache
def _modules(weights: Path) -> Any:
    """The modules whose parameters a file holds."""
    from safetensors.torch import load_file
    from torch import nn

    found, root = load_file(weights), nn.Module()
    for name in (key.removesuffix(".weight") for key in found if key.endswith(".weight")):
        placed(root, name, _layer(found[f"{name}.weight"].shape, f"{name}.bias" in found))
    root.load_state_dict(found)
    return root


def _layer(shape: tuple[int, ...], bias: bool) -> Any:
    from torch import nn

    out, *rest = shape
    if len(rest) < 2:
        return nn.Linear(rest[0], out, bias) if rest else nn.LayerNorm(out)
    convolution = {2: nn.Conv1d, 3: nn.Conv2d, 4: nn.Conv3d}[len(rest)]
    return convolution(rest[0], out, tuple(rest[1:]), bias=bias)


def _llama() -> Any:
    return _model(ROOT / "llama" / "base")


def _nothing() -> None:
    return None


#: Where files are, what their layers are of, what is given as the base, and what has to be said of them.
PLACES: tuple[tuple[str, Callable[[], Any], str, Mapping[str, Any]], ...] = (
    ("adapterhub/llama/*/st", lambda: _model(ROOT / "adapterhub" / "llama" / "base"), "adapterhub/llama/base", {}),
    ("adapterhub/llama/*/setup", lambda: _model(ROOT / "adapterhub" / "llama" / "base"), "adapterhub/llama/base", {}),
    ("diffusers/*/pytorch_lora_weights.safetensors", _nothing, "", {}),
    ("gguf/*-f*.gguf", _llama, "llama/base", {}),
    ("kohya/*/lora.safetensors", _nothing, "", {}),
    ("litgpt/*/lit_model.pth.*", _llama, "llama/base", {}),
    ("llama/peft/*", _llama, "llama/base", {}),
    ("loralib/lora_*.pt", _nothing, "", {"alpha": 6.0, "enable_lora": (True, False, True)}),
    ("lycoris/*/lycoris.safetensors", lambda: _modules(ROOT / "lycoris" / "base.safetensors"), LIVE, {}),
    ("mlx/*/adapters.*", _llama, "llama/base", {}),
    ("torchtune/*/adapter_0.pt", _llama, "llama/base", {"alpha": 7.0}),
)


def references() -> Iterator[Sample]:
    """Every genuine file, under the name of the format that it is found to be in, else of the tool that is named.

    Their paths are from `ROOT`, which is where one has to be.
    """
    for pattern, model, ground, said in PLACES:
        for path in sorted(one.relative_to(ROOT) for one in ROOT.glob(pattern)):
            if path.name != "base-f32.gguf":
                form = _format(path)
                asked = {name: value for name, value in said.items() if form and name in form.asks}
                yield Sample(form.name if form else _tool(path), str(path), path, model(), ground, asked)


def _format(path: Path) -> foreign.Format | None:
    try:
        return foreign.of(path)
    except AdaptrError:
        return None


def _tool(path: Path) -> str:
    """What is read by no format, by whom its marks say."""
    said = detect.name_of(path)
    return next((tool.name for tool in formats.known() if tool.called in said), path.parts[0])
