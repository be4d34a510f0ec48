"""What a path holds, in words, where no format reads it: so that a person knows what they have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from adaptr.errors import AdaptrError, ConfigMissing, NoAdapterTensors, UnknownFormat, phrases, shown
from adaptr.foreign import formats
from adaptr.foreign.format import Format
from adaptr.foreign.placing import ordered
from adaptr.foreign.seen import CONFIG, Seen, refuse_pointer, short
from adaptr.foreign.seen import STATE as CALLED
from adaptr.format.io import open_tensors
from adaptr.untrusted import opened

BASE = "a base model"
ATTACHED = "a model saved with adapters of adaptr on it"
STATE = "what a training needs to go on"
TOKENIZER = "a tokenizer"
SETTINGS = "the configuration of an adapter"
UNKNOWN = "of no known tool"
UNREAD = "adaptr can't read this format yet: save it as PEFT's with the tool that wrote it"
#: Where no tool is known that could.
WANTED = (
    f"give an adapter's file, or a folder with `{CONFIG}` and the weights; `adaptr convert --help` says what is read"
)
#: What to do with what is no adapter.
_WAYS = {
    BASE: "an adapter was wanted; if training changed it, `adaptr extract BASE TUNED` makes one of the change",
    ATTACHED: "an adapter was wanted; the one in training is saved by `adaptr.save(session.adapted(), FILE)`",
    STATE: "an adapter was wanted; name the folder or the file that the weights are in",
    TOKENIZER: "an adapter was wanted; name the folder or the file that the weights are in",
    SETTINGS: "name the folder that it lies in, with the weights beside it",
}
_TOKENIZERS = frozenset({
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "spiece.model", "chat_template.jinja",
})  # fmt: skip
_CHECKPOINT = re.compile(r"checkpoint-(\d+)|epoch[-_](\d+)|step[-_](\d+)")
_OURS = re.compile(r".*\.adapters\.[^.]+\.[^.]+", re.DOTALL)
_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".npz", ".npy"})
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(?<!\.safetensors)")
_STATES = _SUFFIXES | {".json", ".pkl"}
_SCALARS = re.compile(r".*\.(alpha|dropout_p)")


def refusal(path: Path) -> AdaptrError:
    """The error that says what `path` is and why it can't be read."""
    if not path.exists():
        hub = f"if it is a repository of the Hub, say `hf://{path}`" if _REPOSITORY.fullmatch(str(path)) else ""
        return phrases.nothing_at(path, hint=hub)
    try:
        what = name_of(path)
    except AdaptrError as error:
        return error
    if any(what == _weights(form) for form in formats.formats()):
        return ConfigMissing(
            f"`{path}` holds {what} without the `{CONFIG}` that says how to use them",
            hint=f"put its `{CONFIG}` beside it",
        )
    fact, way = (f"is {what}", _way(what)) if what else _nothing_known(path)
    return UnknownFormat(f"`{path}` {fact}", hint="; ".join([way, *formats.faults()]))


def _way(what: str) -> str:
    """What to do with what is no adapter that is read."""
    own = next((tool.way for tool in formats.known() if tool.called == what and tool.way), UNREAD)
    return _WAYS.get(what, WANTED if what.endswith(UNKNOWN) else own)


def _nothing_known(path: Path) -> tuple[str, str]:
    """What is to be said of a file or folder in which nothing is known, and where to look instead."""
    if not path.is_dir():
        return "is in no format that adaptr knows", WANTED
    below = ordered(str(found.parent) for found in path.glob(f"*/{CONFIG}"))
    if below and all(_CHECKPOINT.fullmatch(Path(name).name) for name in below):
        return "is the folder of a training", f"name one of its checkpoints: the last is `{below[-1]}`"
    if below:
        return "is no adapter, but holds some", f"name one: {', '.join(f'`{name}`' for name in below[-3:])}"
    whole = ordered(str(one) for one in path.iterdir() if one.is_dir() and _CHECKPOINT.fullmatch(one.name))
    if whole:
        return (
            "is the folder of a training, whose checkpoints hold no adapter",
            f"if they are whole models, `adaptr extract BASE {whole[-1]}` makes an adapter of the change",
        )
    return f"holds {'no adapter' if any(path.iterdir()) else 'nothing'}", WANTED


def name_of(path: Path) -> str:
    """What is at `path`, in words, or "". Raises `LfsPointer`, `NoAdapterTensors` or a `FormatError`."""
    seen = Seen(path)
    return _folder(seen) if seen.folder else _file(seen)


def _file(seen: Seen) -> str:
    if _is_state(seen.path.name):
        return STATE
    if seen.path.name in _TOKENIZERS:
        return TOKENIZER
    if seen.path.name == CONFIG:
        return SETTINGS
    begun = [tool.called for tool in formats.known() if tool.marks.begins(seen.first)]
    found = " or ".join(begun) or of_keys(seen.names, seen.path)
    if not found and seen.container == "a safetensors file":
        open_tensors(seen.path)  # where the header is broken, that is what to say
    archive = seen.container.endswith("archive")
    return found or (f"{seen.container} {UNKNOWN}" if seen.container and not archive else seen.container)


def _folder(seen: Seen) -> str:
    weights = [seen.path / name for name in sorted(seen.files) if Path(name).suffix in _SUFFIXES]
    for file in weights:
        with opened(file) as stream:
            refuse_pointer(file, stream.read(512))
    tools = formats.known()
    named = [tool for tool in tools if tool.recognises(seen)]
    found = named or [tool for tool in tools if tool.marks.configured(seen.config)]
    if found:
        return " or ".join(tool.called for tool in found)
    _require_weights(seen)
    if "config.json" in seen.files:
        return _model(weights)
    if weights and all(_is_state(file.name) for file in weights):
        return STATE
    if not weights and seen.files & _TOKENIZERS:
        return TOKENIZER
    return name_of(weights[0]) if weights else ""


def _is_state(name: str) -> bool:
    """Whether a file is called as the state of an optimiser, a schedule or a generator is."""
    path = Path(name)
    return path.suffix in _STATES and CALLED.fullmatch(path.stem) is not None


def _require_weights(seen: Seen) -> None:
    """Raises `NoAdapterTensors` for a folder with the configuration of a format that is read, and no weights."""
    form = formats.configured(seen.config)
    if form is not None:
        said = next(seen.config[name] for name in form.marks.config if name in seen.config)
        raise NoAdapterTensors(
            f"`{seen.path}` has a {form.tool} configuration ({shown(said)}) and no weights",
            hint="put its weights beside it",
        )


def _model(weights: Iterable[Path]) -> str:
    """Which of the two a folder of a model is: what a Trainer saves has the adapter in training among its tensors."""
    return ATTACHED if any(_attached(Seen(file).names) for file in weights) else BASE


def _attached(names: Iterable[str]) -> bool:
    return any(_OURS.fullmatch(name) for name in names)


def of_keys(keys: Iterable[str], path: Path) -> str:
    """The tools that name tensors like this, or "". Raises `NoAdapterTensors` for scales without matrices."""
    names = short(keys)
    require_matrices(names, path)
    if _attached(names):
        return ATTACHED
    tools = [tool.called for tool in formats.known() if tool.marks.named(names)]
    return " or ".join([*tools, *(_weights(form) for form in formats.formats() if form.marks.named(names))])


def require_matrices(names: Collection[str], path: Path) -> None:
    """Raises `NoAdapterTensors` where a file holds scales alone."""
    if names and all(_SCALARS.fullmatch(name) for name in names):
        raise NoAdapterTensors(
            f"`{path}` holds {len(names)} scales and dropout rates, and no adapter matrix", hint=phrases.AGAIN
        )


def _weights(form: Format) -> str:
    """What tensors are that are named as a format's, and lie where it does not read them."""
    return f"{form.tool} weights"
