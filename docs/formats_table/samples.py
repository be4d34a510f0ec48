"""What is tried: small adapters made up here, as adaptr's own files and in every format that holds them.

A format that is written has its samples by being written; one that is only read has the one in
`theirs.MADE`, and none until somebody says there how its files look.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import adaptr
from adaptr import foreign, plugins
from adaptr.errors import AdaptrError
from adaptr.foreign.formats import OWN
from adaptr.testing.samples import shaken, tiny_llama
from formats_table.theirs import MADE

#: What a base is called that a command can't be given, and Python can.
LIVE = "model"


@dataclass(frozen=True)
class Sample:
    """A file or folder to convert. `base`: the live model that its layers are of, or None; `ground`: what the command
    calls it, "" where none is given. `said`: what the file lacks, as `adaptr.source` takes it.
    """

    format: str
    name: str
    path: Path
    base: Any = None
    ground: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Any:
        return adaptr.source(self.path, **self.said) if self.said else self.path

    @property
    def given(self) -> Any:
        """The base as it is given: what describes itself gets none."""
        return self.base if self.ground else None


# ---------------------------------------------------------------- bases


@functools.cache
def llama() -> Any:
    return tiny_llama()


@functools.cache
def pipeline() -> Any:
    """The modules of an image pipeline that have names in every library: CLIP's text encoder, and blocks of Flux."""
    from torch import nn

    attention = dict.fromkeys(("q_proj", "k_proj", "v_proj", "out_proj"), (16, 16))
    text = {f"self_attn.{name}": shape for name, shape in attention.items()} | {"mlp.fc1": (16, 24)}
    paths = {f"text_encoder.text_model.encoder.layers.{i}.{n}": shape for i in range(2) for n, shape in text.items()}
    blocks = {"double_blocks.0.img_attn.qkv": (16, 48), "double_blocks.0.img_attn.proj": (16, 16),
              "single_blocks.0.linear1": (16, 80)}  # fmt: skip
    root = nn.Module()
    for path, (inputs, outputs) in {**paths, **{f"transformer.{n}": shape for n, shape in blocks.items()}}.items():
        placed(root, path, nn.Linear(inputs, outputs))
    return root


def placed(root: Any, path: str, module: Any) -> None:
    """Put a module at `path`, with what is between."""
    from torch import nn

    *owners, last = path.split(".")
    for name in owners:
        if not hasattr(root, name):
            root.add_module(name, nn.Module())
        root = getattr(root, name)
    root.add_module(last, module)


#: What samples are of: the base, whether it is given in converting, and the layers where the method's own are none.
BASES: Mapping[str, tuple[Callable[[], Any], str, tuple[str, ...] | None]] = {
    "llama": (llama, "llama", None),
    "pipeline": (pipeline, "", ("text_encoder*.q_proj", "text_encoder*.v_proj", "transformer.*")),
}


# ---------------------------------------------------------------- adapters


def methods() -> list[str]:
    """The methods that an adapter can be of without being over others."""
    found = {name: plugins.method(name).can for name in plugins.builtin_files()}
    return [name for name, can in found.items() if not (can.needs or can.parts)]


#: What stands for the method where a LoRA's tensors are quantised.
INT8 = "int8-lora"


def adapter(base: str, method: str) -> adaptr.Adapter:
    """One whose tensors are all away from where they start. Raises `AdaptrError` where it has no place."""
    if method == INT8:
        return adaptr.quantize(adapter(base, "lora"), "int8")
    model, _, layers = BASES[base]
    return shaken(adaptr.create(model(), method, *([list(layers)] if layers else []), **plugins.method(method).small))


def own(folder: Path, base: str, method: str) -> Sample | None:
    """An adapter as adaptr's file, None where the method has no place in the base."""
    try:
        made = adapter(base, method)
    except AdaptrError:
        return None
    path = folder / f"{OWN}-{method}-{base}.safetensors"
    adaptr.save(made, path, force=True)
    return Sample(OWN, f"{method} on {base}", path, BASES[base][0](), BASES[base][1])


def in_format(form: foreign.Format, sample: Sample, folder: Path) -> Sample | None:
    """One of adaptr's samples in a format, or a LoRA as its tool has them; None where the format holds neither."""
    method, _, base = sample.name.partition(" on ")
    theirs = _theirs(form.name, base, folder) if method == "lora" else None
    if not form.writes:
        return theirs
    path = folder / (f"{form.name}-{method}-{base}" + ("" if form.folder else ".safetensors"))
    try:
        adaptr.convert(sample.path, path, to=form.name, base=sample.given, force=True)
    except AdaptrError:
        return theirs
    return Sample(form.name, sample.name, path, sample.base, sample.ground)


def _theirs(name: str, base: str, folder: Path) -> Sample | None:
    """A LoRA as a tool writes it, None where nobody has said how that looks."""
    made = MADE.get(name)
    if made is None or made.base != base:
        return None
    model, ground, _ = BASES[base]
    return Sample(name, f"lora on {base}", made.write(folder / f"{name}-lora-{base}"), model(), ground, made.said)
