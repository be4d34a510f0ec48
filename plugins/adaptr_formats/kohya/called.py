"""What the modules of an adapter are called in a file of kohya's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import AdaptrError, Unsupported, phrases
from adaptr.foreign.pieces.dotted import COMPONENTS
from adaptr.foreign.pieces.image_models import DIFFUSERS
from adaptr.networks.clip import MODEL
from adaptr_formats.kohya import keys as names

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

#: What a layer of CLIP is called by sd-scripts with transformers 5, and how its path goes on there.
NEW_CLIP = re.compile(r"lora_te\d?_encoder_layers_")
_LAYERS = "encoder.layers."
#: The entry of a file's metadata with the text encoders whose paths are those of transformers 5, by component.
CLIP = "adaptr.clip"


def flats(adapter: Adapter, kept: Mapping[str, Any]) -> dict[str, str]:
    """What each module is called. Raises `Unsupported` where a name would be read as another's."""
    own = kept.get(CLIP)
    called = {target.path: target.path if own else _of_readers(target.path) for _, target in adapter.all_targets}
    paths = [*called.values()]
    pairs = {path: _flat(one, paths, kept.get("prefixes", {})) for path, one in called.items()}
    back: dict[tuple[str, str], str] = {}
    for path, pair in pairs.items():
        if back.setdefault(pair, path) != path:
            raise Unsupported(f"`{path}` and `{back[pair]}` would have one name, `{'_'.join(pair)}`", hint=phrases.OWN)
    known = {pair: called[path] for pair, path in back.items() if path.partition(".")[0] in COMPONENTS}
    if len(known) == len(back):
        _require_readable(known)
    return {path: "_".join(pair) for path, pair in pairs.items()}


def _of_readers(path: str) -> str:
    """What kohya's readers call a module of CLIP, which transformers 5 calls otherwise."""
    component, _, rest = path.partition(".")
    clip = component in names.ENCODERS.values() and rest.startswith(_LAYERS)
    return f"{component}.{MODEL}{rest}" if clip else path


def renamed(flats: Mapping[str, str]) -> dict[str, str]:
    """What the metadata say of text encoders that have other names in the file than the adapter has."""
    news = {path.partition(".")[0] for path, flat in flats.items()
            if _of_readers(path) != path and not NEW_CLIP.match(flat)}  # fmt: skip
    return {CLIP: ",".join(sorted(news))} if news else {}


def as_named(path: str, metadata: Mapping[str, str]) -> str:
    """The path that the adapter had, by what the metadata say."""
    component, _, rest = path.partition(".")
    new = component in metadata.get(CLIP, "").split(",") and rest.startswith(f"{MODEL}{_LAYERS}")
    return f"{component}.{rest.removeprefix(MODEL)}" if new else path


def notes(flats: Mapping[str, str]) -> tuple[str, ...]:
    """What readers of the file have to know of its names."""
    found = []
    new = sorted(name for name in flats.values() if NEW_CLIP.match(name))
    if new:
        found.append(
            f"`{new[0]}` is a name of transformers 5, without `text_model`, as the adapter came with it: sd-scripts "
            "with transformers 5 reads it, and ComfyUI and AUTOMATIC1111 leave it out"
        )
    if any(path.partition(".")[0] not in COMPONENTS for path in flats):
        found.append("the names say no model's paths: reading it back needs the base (`--base`)")
    return tuple(found)


def _require_readable(known: Mapping[tuple[str, str], str]) -> None:
    try:
        read = names.paths(known, None)
    except AdaptrError as error:
        raise Unsupported(f"kohya's files have no name for a module: {error.fact}", hint=phrases.OWN) from None
    for pair, path in known.items():
        if read[pair] != path:
            raise Unsupported(f"`{path}` would be read as `{read[pair]}`", hint=phrases.OWN)


def _flat(path: str, paths: list[str], prefixes: Mapping[str, str]) -> tuple[str, str]:
    """(prefix, name): as the adapter had it, else as sd-scripts has it for such a model, else LyCORIS's."""
    component, _, rest = path.partition(".")
    inner = rest if component in COMPONENTS else path
    return prefixes.get(component) or _prefix(component, inner, paths), inner.replace(".", "_")


def _prefix(component: str, inner: str, paths: list[str]) -> str:
    root = inner.partition(".")[0]
    if component in ("unet", "transformer"):
        return "lora_transformer" if component == "transformer" and root in DIFFUSERS.roots else "lora_unet"
    starts = {path.partition(".")[0] for path in paths}
    flux = any(path.startswith(("transformer.double_blocks", "transformer.single_")) for path in paths)
    several = "text_encoder_2" in starts or "transformer" in starts
    called = {
        "text_encoder": "lora_te1" if several else "lora_te",
        "text_encoder_2": "lora_te3" if flux else "lora_te2",
        "text_encoder_3": "lora_te3",
    }
    return called.get(component, "lycoris")
