"""An adapter, or a base model, as an artifact: which files go in, and what its manifest says of them.

The same files give the same manifest and so the same digest: nothing of when, where or by whom is in it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import foreign, plugins
from adaptr.contract.capabilities import STACK
from adaptr.errors import InputError, UnsafePickle, phrases
from adaptr.foreign import formats
from adaptr.foreign.seen import CONFIG, is_adaptr
from adaptr.format import canonical
from adaptr.registry import names, strict, terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor, Manifest

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.registry.store import Store

#: The name of an adaptr file inside an artifact.
NAME = "adapter.adaptr.safetensors"
#: What may run code when it is loaded: never packed, pushed or pulled.
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".keras", ".joblib", ".msgpack"})
#: Programs, which some loaders run where they find them beside weights.
PROGRAMS = frozenset({".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".bat", ".cmd", ".exe", ".ps1"})
DOCUMENTS = frozenset({".md", ".txt", ".rst"})
CONFIGS = frozenset({".json", ".jinja", ".model", ".yaml", ".yml", ".tiktoken"})
#: A base model's weights, whole or in shards, as its index calls them.
_MODEL = re.compile(r"model(-\d+-of-\d+)?\.safetensors\Z")
#: Learned words beside an adapter, as diffusers calls them.
_WORDS = re.compile(r"learned_embeds([-_].*)?\.safetensors\Z")
_PRECISIONS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8", "U8": "uint8"}


@dataclass(frozen=True)
class Package:
    """An artifact before it is stored: its files by name, and what is said of them."""

    files: Mapping[str, Path]
    annotations: Mapping[str, str]
    model: Mapping[str, Any]


def may_run(name: str) -> bool:
    """Whether a file may run code when it is loaded, or leads to such files, as `pytorch_model.bin.index.json` does."""
    return bool({suffix.lower() for suffix in Path(name).suffixes} & PICKLES) or Path(name).suffix.lower() in PROGRAMS


def wanted(name: str) -> bool:
    """Whether a file of a folder or repository goes into an artifact."""
    path = Path(name)
    plain = path.name.upper() in {"LICENSE", "LICENCE", "NOTICE"}
    return path.suffix == ".safetensors" or path.suffix in DOCUMENTS | CONFIGS or plain


def media_type(name: str) -> str:
    """The layer type of a file: one file, one layer, nothing packed."""
    if name.endswith(".safetensors"):
        return terms.WEIGHTS_LAYER
    return terms.CONFIG_LAYER if Path(name).suffix in CONFIGS else terms.DOC_LAYER


def stored(path: Path, store: Store) -> Manifest:
    """Put what is at `path` into the store as an artifact; returns its manifest, which is not recorded yet.

    Raises `InputError` where there is nothing to pack, `UnsafePickle` for weights that are pickles.
    """
    found = files(path)
    layers = {}
    for name, file in found.items():
        size = file.stat().st_size
        layers[name] = (store.add_file(file), size)
    return manifest(layers, store, {name: store.path(digest) for name, (digest, _) in layers.items()})


def manifest(layers: Mapping[str, tuple[Digest, int]], store: Store, files: Mapping[str, Path]) -> Manifest:
    """The manifest of files that are in the store: name to (digest, size). Puts its config there too."""
    described = _described(files)
    order = sorted(layers, key=lambda name: (media_type(name) != terms.WEIGHTS_LAYER, name))
    parts = [_layer(name, *layers[name]) for name in order]
    document = {**described.model, "modelfs": {"type": "layers", "diffIds": [str(part.digest) for part in parts]}}
    raw = canonical.dumps(document).encode()
    config = Descriptor(terms.MODEL_CONFIG, store.add_bytes(raw), len(raw))
    return Manifest.make(config, parts, terms.MODEL_ARTIFACT, described.annotations)


def _layer(name: str, digest: Digest, size: int) -> Descriptor:
    names.require(name)
    return Descriptor(media_type(name), digest, size, {terms.TITLE: name, terms.FILEPATH: name})


def files(path: Path) -> dict[str, Path]:
    """Name in the artifact to file, of what is at `path`."""
    if path.is_file():
        return {_file_name(path): path}
    if not path.is_dir():
        raise phrases.nothing_at(path)
    found = selected([file.name for file in plain(path) if file.is_file()], str(path))
    return {name: path / file for name, file in found.items()}


def plain(folder: Path) -> list[Path]:
    """What lies in a folder. Raises `InputError` for a link: what it leads to may be no part of what is published."""
    found = sorted(folder.iterdir())
    link = next((path for path in found if path.is_symlink()), None)
    if link is not None:
        raise InputError(
            f"`{link}` is a link, and what it leads to would be published unseen", hint="put the file itself there"
        )
    return found


def selected(files: Iterable[str], where: str) -> dict[str, str]:
    """Which of the files of a folder or repository, called `where`, make an artifact: name in it to name there.

    Of several sets of weights, those count that the field's libraries load: adaptr's file, another format's, a model's.
    Raises `UnsafePickle` where they are pickles, `InputError` where there are none, `UnsafeName`.
    """
    there = sorted(files)
    weights = _weights(there, where)
    beside = [name for name in there if wanted(name) and not name.endswith(".safetensors")]
    if not weights:
        pickled = next((name for name in there if Path(name).suffix in PICKLES), "")
        if pickled:
            raise UnsafePickle(
                f"`{where}` has its weights as a pickle (`{pickled}`), which may run code and is never published or "
                "pulled",
                hint="`adaptr convert FOLDER -o OUT` makes a safe file of one that you trust",
            )
        raise InputError(f"`{where}` holds no safetensors file", hint="name the folder of an adapter, or its file")
    return {names.require(NAME if _is_own(name) else name): name for name in [*weights, *beside]}


def _weights(there: Sequence[str], where: str) -> list[str]:
    found = [name for name in there if name.endswith(".safetensors")]
    own = [name for name in found if _is_own(name)]
    if len(own) > 1:
        raise InputError(f"`{where}` holds {len(own)} adaptr files", hint=f"name one, such as `{own[0]}`")
    theirs = formats.packed(there)
    adapters = [*own, *(names[0] for names in theirs.values())]
    if len(adapters) > 1:
        raise InputError(
            f"`{where}` holds two adapters, `{adapters[0]}` and `{adapters[1]}`",
            hint="keep them in folders of their own",
        )
    if own or theirs or CONFIG in there:
        adapter = own or [name for names in theirs.values() for name in names if name in found]
        return [*adapter, *(name for name in found if adapter and _WORDS.match(name))]
    return [name for name in found if _MODEL.match(name)] or found


def _is_own(name: str) -> bool:
    return name.endswith(".adaptr.safetensors")


def _file_name(path: Path) -> str:
    if is_adaptr(path):
        return NAME
    if path.suffix in PICKLES:
        raise UnsafePickle(
            f"`{path}` is a pickle, which is never published", hint="`adaptr convert` makes a safe file of it"
        )
    raise InputError(
        f"`{path}` is not an adaptr file", hint="give the folder with its configuration, or convert it first"
    )


def single(digest: Digest, size: int, store: Store, where: str) -> Manifest:
    """The manifest of an adaptr file that is in the store by itself and came from `where`. Raises `InputError`."""
    path = store.path(digest)
    if not is_adaptr(path):
        raise InputError(
            f"`{where}` is not an adaptr file, which alone says all of an adapter",
            hint="pull the whole folder, or convert it",
        )
    return manifest({NAME: (digest, size)}, store, {NAME: path})


def said(files: Mapping[str, Path]) -> dict[str, str]:
    """What a manifest of these files, by name, must say of them."""
    return dict(_described(files).annotations)


def _described(files: Mapping[str, Path]) -> Package:
    """What the manifest says: read from the files, so that it can't contradict them."""
    counted = _counted(files)  # first: what a strict reader refuses is read by no other
    found = adapter_in(files)
    if found is None:
        return Package(files, {terms.SPEC_VERSION: terms.SPEC, terms.KIND: terms.MODEL}, _model({}, counted))
    adapter, form = found
    return Package(files, dict(_annotations(adapter, form)), _model(_names(adapter), counted))


def adapter_in(files: Mapping[str, Path]) -> tuple[Adapter, str] | None:
    """The adapter in these files, and the name of its format; None for a base model."""
    own = next((file for name, file in files.items() if _is_own(name)), None)
    if own is None and "config.json" in files and CONFIG not in files:
        return None
    if own is not None:
        from adaptr.format.io import read

        return read(own), foreign.OWN
    folder = next(iter(files.values())).parent
    if {folder / Path(name).name for name in files} != set(files.values()):
        return _elsewhere(files)
    return _read(folder)


def _read(folder: Path) -> tuple[Adapter, str]:
    form = foreign.of(folder)
    return form.read(folder, None), form.name


def _elsewhere(files: Mapping[str, Path]) -> tuple[Adapter, str]:
    """Blobs have no names of their own: read them in a folder of links, with a copy of the card."""
    import shutil
    import tempfile

    from adaptr.foreign.peft.told import CARD

    with tempfile.TemporaryDirectory() as made:
        for name, file in files.items():
            link = Path(made) / name
            link.parent.mkdir(parents=True, exist_ok=True)
            if name == CARD:  # of which links are not followed
                shutil.copyfile(file, link)
            else:
                link.symlink_to(file.absolute())
        return _read(Path(made))


def _annotations(adapter: Adapter, form: str) -> Iterator[tuple[str, str]]:
    ranks = sorted({t.config["r"] for _, t in adapter.all_targets if isinstance(t.config.get("r"), int)})
    base = adapter.base
    said = {
        terms.SPEC_VERSION: terms.SPEC,
        terms.KIND: terms.STACK if adapter.method == plugins.default(STACK) else terms.ADAPTER,
        terms.FORMAT: form,
        terms.METHOD: adapter.method,
        terms.RANK: ",".join(map(str, ranks[:8])),
        terms.BASE_MODEL: f"{base.id}@{base.revision}" if base.id and base.revision else base.id,
        terms.BASE_STRUCTURE: base.structure,
        terms.BASE_CONTENT: base.content,
        terms.PARENTS: ",".join(_parents(adapter)),
        terms.TITLE: adapter.name,
        terms.DESCRIPTION: adapter.summary,
        terms.VERSION: adapter.release,
        terms.LICENSES: adapter.license,
    }
    yield from ((key, value) for key, value in said.items() if value)


def _parents(adapter: Adapter) -> list[str]:
    """The digests of what it was made of, as far as they are file digests."""
    return [p["digest"] for p in adapter.lineage.get("parents", []) if isinstance(p, Mapping) and "digest" in p]


def _names(adapter: Adapter) -> dict[str, Any]:
    said = {"name": adapter.name, "version": adapter.release, "family": adapter.base.architecture}
    found: dict[str, Any] = {key: value for key, value in said.items() if value}
    return {**found, "licenses": [adapter.license]} if adapter.license else found


def _model(descriptor: Mapping[str, Any], counted: Mapping[str, int]) -> dict[str, Any]:
    """The ModelPack config, but for the list of layers."""
    numbers, precision = sum(counted.values()), max(counted, key=lambda k: (counted[k], k), default="")
    config = {"format": "safetensors", "paramSize": _short(numbers)}
    if precision in _PRECISIONS:
        config["precision"] = _PRECISIONS[precision]
    return {"descriptor": dict(descriptor), "config": config}


def _counted(files: Mapping[str, Path]) -> Mapping[str, int]:
    """Numbers of each dtype in the safetensors files, by their headers, which are checked before anything else is."""
    found: Counter[str] = Counter()
    for name, file in files.items():
        if name.endswith(".safetensors"):
            for entry in strict.header(name, file).entries.values():
                found[entry.dtype] += entry.numel
    return found


def _short(count: int) -> str:
    for size, letter in ((10**9, "b"), (10**6, "m"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)
