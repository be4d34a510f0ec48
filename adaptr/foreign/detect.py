"""What a path holds, from first bytes, key names and configuration. Nothing is unpickled and torch is not imported.

Only names: whether adaptr can read a format is known by `adaptr.foreign`. What can't be read is refused by name, so
that a person knows what they have.
"""

from __future__ import annotations

import itertools
import pickletools
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adaptr.errors import (
    AdaptrError,
    ForeignError,
    FormatError,
    InputError,
    LfsPointer,
    NoAdapterTensors,
    UnknownFormat,
)
from adaptr.format import header as headers
from adaptr.format import manifest as manifests
from adaptr.format.io import open_tensors
from adaptr.untrusted import json_object, opened, whole

LFS = b"version https://git-lfs.github.com/spec/"
#: The configuration beside the weights: of PEFT, AdapterHub and MLX alike.
CONFIG = "adapter_config.json"
CONFIG_LIMIT = 16_000_000
PICKLE_LIMIT = 64_000_000
#: Steps of a pickle that are looked at: those of 100,000 tensors, in a second or two.
MOST_STEPS = 2_000_000

#: What the first bytes say of files that are neither safetensors nor torch's.
_MAGIC = (
    (b"GGUF", "a GGUF file (llama.cpp)"),
    (b"algg", "an obsolete llama.cpp adapter (ggla)"),
    (b"\x93NUMPY", "a NumPy array, as T5X prompts are"),
)
BASE = "a base model"
UNREAD = "adaptr can't read this format yet"
ATTACHED = "a model saved with adapters of adaptr on it"
#: What to do with what is no adapter.
_WAYS = {
    BASE: "an adapter was wanted; if training changed it, `adaptr extract BASE TUNED` makes one of the change",
    ATTACHED: "an adapter was wanted; the one in training is saved by `adaptr.save(session.adapted(), FILE)`",
}
#: What a key says of the tool that wrote the file. The first line that matches any key counts.
_KEYS = (
    (r"(unet|text_encoder):\d+:(up|down)", "a cloneofsimo LoRA"),
    (r".*\.adapters\.[^.]+\.[^.]+", ATTACHED),
    (r".*\.(adapters|loras|refts|prefix_tunings|prompt_tunings)\.[^.]+\..*", "an AdapterHub adapter"),
    (r"heads\.[^.]+\..*", "an AdapterHub prediction head"),
    (r".*\.adapter\.linear_(in|out)\.weight|.*\.lora_\w+_adapter\..*", "a Megatron or NeMo adapter"),
    (r"adapter_query\.weight", "a LLaMA-Adapter"),
    (r"w_[ab]_\d+", "a LoRA-ViT file"),
    (r"double_blocks\.\d+\.processor\..*", "an XLabs LoRA"),
    (r"diffusion_model\..*\.lora_(down|up)\.weight", "a ComfyUI LoRA"),
    (r"(unet|transformer|prior|text_encoder\w*)\..*\.lora_(down|up)\.weight", "a OneTrainer LoRA"),
    (r"v_head\.(summary\.)?(weight|bias)", "a TRL value head"),
    (r"(input|output)_embeddings", "embeddings that vLLM loads beside a LoRA"),
    (r"(lora_(unet|te\d?|transformer|prior\w*)|lycoris)_\w+\..*", "a kohya or LyCORIS adapter"),
    (r".*(_lora\.(down|up)|\.lora\.(down|up)|lora_linear_layer\.(down|up))\.weight", "a diffusers LoRA"),
    (r"(unet|transformer|text_encoder\w*|diffusion_model)\..*\.lora_[AB]\.weight", "a diffusers LoRA"),
    (r".*\.(ia3_l|lora_(A|B)(\.[^.]+)?\.weight|lora_embedding_[AB])|prompt_embeddings", "PEFT weights"),
    (r"base_model\.model\..*", "PEFT weights"),
    (r".*\.lora_[ab]\.weight", "a torchtune LoRA"),
    (r".*\.lora_[ab]", "an MLX adapter"),
    (r".*\.(attn|attention)\.(attn|qkv)\.lora_[AB]", "a LitGPT LoRA"),
    (r".*\.lora_[AB]", "a loralib LoRA"),
    (r"string_to_param|emb_params", "a textual-inversion embedding"),
)
#: What a file's name says of a folder.
_NAMES = (
    ("pytorch_adapter.bin", "an AdapterHub adapter"),
    ("adapter.safetensors", "an AdapterHub adapter"),
    ("adapters.safetensors", "an MLX adapter"),
    ("adapters.npz", "an MLX adapter"),
    ("pytorch_lora_weights.safetensors", "a diffusers LoRA"),
    ("pytorch_lora_weights.bin", "a diffusers LoRA"),
    ("adapter_model.safetensors.index.json", "a PEFT adapter in several shards"),
    ("xlora_config.json", "an X-LoRA"),
    ("lit_model.pth.lora", "a LitGPT LoRA"),
)
_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".npz", ".npy"})
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(?<!\.safetensors)")
_SCALARS = re.compile(r".*\.(alpha|dropout_p)")


def refusal(path: Path) -> AdaptrError:
    """The error that says what `path` is and why it can't be read."""
    if not path.exists():
        hub = f"; if it is a repository of the Hub, say `hf://{path}`" if _REPOSITORY.fullmatch(str(path)) else ""
        return InputError(f"there is nothing at `{path}`{hub}")
    try:
        what = name_of(path)
    except AdaptrError as error:
        return error
    if not what:
        return UnknownFormat(f"`{path}` {_nothing_known(path)}")
    if what == "PEFT weights":
        from adaptr.errors import ConfigMissing

        return ConfigMissing(f"`{path}` holds PEFT weights without the `adapter_config.json` that says how to use them")
    return UnknownFormat(f"`{path}` is {what}; {_WAYS.get(what, UNREAD)}")


def _nothing_known(path: Path) -> str:
    """What is to be said of a file or folder in which nothing is known, and where to look instead."""
    wanted = f"wanted an adapter's file, or a folder with `{CONFIG}` and the weights"
    if not path.is_dir():
        return f"is in no format that adaptr knows; {wanted}"
    below = sorted(str(found.parent) for found in path.glob(f"*/{CONFIG}"))
    if below:
        return f"is no adapter, but holds some; name one: {', '.join(f'`{name}`' for name in below[-3:])}"
    return f"holds {'no adapter' if any(path.iterdir()) else 'nothing'}; {wanted}"


def name_of(path: Path) -> str:
    """What is at `path`, in words, or "". Raises `LfsPointer`, `NoAdapterTensors` or a `FormatError`."""
    if path.is_dir():
        return _folder(path)
    with opened(path) as file:
        first = file.read(512)
    refuse_pointer(path, first)
    for magic, what in _MAGIC:
        if first.startswith(magic):
            return what
    if first[8:9] == b"{":
        return _safetensors(path)
    if first.startswith(b"PK\x03\x04"):
        return _zip(path)
    if first.startswith(b"\x80"):
        with opened(path) as file:
            raw = file.read(PICKLE_LIMIT)
        return of_keys(_texts(raw), path) or "a pickle of no known tool"
    return ""


def refuse_pointer(path: Path, first: bytes) -> None:
    """Raises `LfsPointer` if a file that starts with `first` is a Git LFS pointer."""
    if not first.startswith(LFS):
        return
    found = re.search(rb"oid (sha256:[0-9a-f]{64})\s+size (\d+)", first)
    said = f" of {int(found[2])} bytes, {found[1].decode()}," if found else ""
    raise LfsPointer(f"`{path}` is a Git LFS pointer: the file{said} was never downloaded; run `git lfs pull` there")


#: How the header of a file that adaptr wrote begins.
OURS = f'{{"__metadata__":{{"{manifests.KEY}":"'.encode()


def is_adaptr(path: Path) -> bool:
    """Whether `path` is a safetensors file with an adaptr manifest, by its header."""
    return path.is_file() and (_starts_as_ours(path) or manifests.KEY in peeked(path).get("__metadata__", {}))


def _starts_as_ours(path: Path) -> bool:
    """As adaptr writes its files: what saves reading the whole header twice."""
    with opened(path) as file:
        return file.read(8 + len(OURS))[8:] == OURS


def peeked(path: Path) -> Mapping[str, Any]:
    """The JSON of a safetensors header, unchecked; empty for anything else."""
    with opened(path) as file:
        first = file.read(9)
        length = int.from_bytes(first[:8], "little")
        if first[8:] != b"{" or not 0 < length <= headers.MAX_HEADER:
            return {}
        raw = b"{" + file.read(length - 1)
    try:
        found = headers.load_json(raw)
    except FormatError:
        return {}
    said = found.get("__metadata__")
    return {**found, "__metadata__": said if isinstance(said, dict) else {}}


def config_of(folder: Path) -> Mapping[str, Any] | None:
    """A JSON object beside the weights, or None. Raises `ForeignError` if it is there and is no JSON object."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    raw = whole(path, CONFIG_LIMIT)
    refuse_pointer(path, raw[:512])
    return json_object(raw, f"`{path}`", ForeignError)


def _folder(path: Path) -> str:
    weights = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    for file in weights:
        with opened(file) as stream:
            refuse_pointer(file, stream.read(512))
    for name, what in _NAMES:
        if (path / name).is_file():
            return what
    config = config_of(path) or {}
    if "fine_tune_type" in config or "lora_parameters" in config:
        return "an MLX adapter"
    if "peft_type" in config:
        raise NoAdapterTensors(f"`{path}` has a PEFT configuration ({config['peft_type']}) and no weights")
    if (path / "config.json").is_file():
        return _model(weights)
    return name_of(weights[0]) if weights else ""


def _model(weights: Iterable[Path]) -> str:
    """Which of the two a folder of a model is: what a Trainer saves has the adapter in training among its tensors."""
    return ATTACHED if any(of_keys(peeked(file), file) == ATTACHED for file in weights) else BASE


def _safetensors(path: Path) -> str:
    what = of_keys((key for key in peeked(path) if key != "__metadata__"), path)
    if what:
        return what
    open_tensors(path)  # where the header is broken, that is what to say
    return "a safetensors file of no known tool"


def of_keys(keys: Iterable[str], path: Path) -> str:
    """The tool that names tensors like this, or "". Raises `NoAdapterTensors` for scales without matrices."""
    keys = [key for key in keys if len(key) <= headers.MAX_KEY]  # a longer one no tensor can have
    if keys and all(_SCALARS.fullmatch(key) for key in keys):
        raise NoAdapterTensors(f"`{path}` holds {len(keys)} scales and dropout rates, and no adapter matrix")
    for pattern, what in _KEYS:
        # `.` takes ends of lines too: where the end of a pattern can't fail, nothing is tried again and again
        expression = re.compile(pattern, re.DOTALL)
        if any(expression.fullmatch(key) for key in keys):
            return what
    return ""


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickled = next((n for n in names if n.endswith("data.pkl")), None)
            raw = archive.open(pickled).read(PICKLE_LIMIT) if pickled else b""
    except Exception as error:  # zipfile and zlib raise whatever the bytes lead them to
        raise ForeignError(f"`{path}` is a damaged zip archive: {error}") from None
    if raw:
        return of_keys(_texts(raw), path) or "a torch file of no known tool"
    arrays = [n.removesuffix(".npy") for n in names if n.endswith(".npy")]
    return of_keys(arrays, path) or ("an npz archive" if arrays else "a zip archive")


def _texts(raw: bytes) -> list[str]:
    """The texts inside a pickle, read without executing it: among them are the tensors' names."""
    found = []
    try:
        for _, argument, _ in itertools.islice(pickletools.genops(raw), MOST_STEPS):
            if isinstance(argument, str):
                found.append(argument)
    except Exception:
        pass  # cut off or damaged in any way: what was read so far still says what it is
    return [text for text in found if " " not in text]
