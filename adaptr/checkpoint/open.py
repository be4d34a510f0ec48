"""Open a checkpoint: a folder of safetensors shards, one safetensors file, or a Hub cache folder. Headers only, no
torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.checkpoint import described
from adaptr.checkpoint.astray import instead
from adaptr.errors import CheckpointError, FormatError, InputError, LfsPointer, Unsupported, phrases, shown
from adaptr.files import record
from adaptr.files.linked import is_name, require_inside, snapshot
from adaptr.format import header as headers
from adaptr.format import manifest as manifests
from adaptr.format.header import Entry, Header
from adaptr.untrusted import json_file, opened

INDEX = "model.safetensors.index.json"
OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt", ".npz"}


@dataclass(frozen=True)
class Shard:
    """One safetensors file and its header, raw (with the length) and parsed."""

    path: Path
    raw: bytes
    header: Header


@dataclass(frozen=True)
class Stored:
    """One tensor of a checkpoint: where its bytes are."""

    name: str
    shard: Shard
    entry: Entry

    @property
    def offset(self) -> int:
        """The first byte in the file."""
        return self.shard.header.data + self.entry.start


@dataclass(frozen=True)
class Checkpoint:
    """A base model on disk. `config` is its config.json, `index` the shard index as read (empty for one file)."""

    root: Path
    shards: tuple[Shard, ...]
    tensors: Mapping[str, Stored]
    config: Mapping[str, Any]
    index: Mapping[str, Any]

    @property
    def nbytes(self) -> int:
        return sum(shard.header.end for shard in self.shards)

    def side_files(self) -> list[Path]:
        """What travels with the weights: configuration, tokenizer, index, licence; not weights in other formats."""
        if not self.root.is_dir():
            return []
        weights = {shard.path.name for shard in self.shards}
        return [
            path
            for path in sorted(self.root.iterdir())
            if path.is_file()
            and path.name not in {*weights, record.NAME}
            and path.suffix not in {*OTHER_WEIGHTS, ".safetensors"}
        ]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint. Raises `CheckpointError` if it is incomplete or malformed, `Unsupported` if quantised,
    `InputError` for a link that leads out of it.
    """
    root = snapshot(Path(path))
    files: list[Path]
    index: dict[str, Any]
    if root.is_file():
        files, index = [root], {}
    elif root.is_dir():
        files, index = _shard_files(root)
    else:
        raise InputError(f"there is no checkpoint at `{path}`", hint=instead(Path(path)))
    shards = tuple(_open_shard(file) for file in files)
    if any(manifests.KEY in shard.header.metadata for shard in shards):
        raise CheckpointError(f"`{path}` is an adapter", want="a base checkpoint")
    tensors = {name: Stored(name, shard, entry) for shard in shards for name, entry in shard.header.entries.items()}
    if len(tensors) != sum(len(shard.header.entries) for shard in shards):
        raise CheckpointError(
            f"`{root}`: two shards hold a tensor of the same name", hint="save it again from the model"
        )
    lost = sorted(set(index.get("weight_map", {})) - set(tensors))
    if lost:
        raise CheckpointError(
            f"`{root}`: the index names `{lost[0]}`, which no shard holds",
            hint="get the missing shards, or save it again from the model",
        )
    config = described.read(root / "config.json") if root.is_dir() and (root / "config.json").exists() else {}
    _refuse_quantized(root, config)
    found = Checkpoint(root, shards, tensors, config, index)
    if root.is_dir():
        require_inside(root, [*files, *found.side_files()])
    return found


def _shard_files(root: Path) -> tuple[list[Path], dict[str, Any]]:
    single, index = root / "model.safetensors", root / INDEX
    if single.exists() or single.is_symlink():
        return [single], {}
    if index.exists():
        document = read_json(index)
        names = document.get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(v, str) for v in names.values()):
            raise CheckpointError(
                f"`{index}` has no `weight_map` of tensor names to files", hint="save it again from the model"
            )
        outside = sorted(name for name in set(names.values()) if not is_name(name))
        if outside:
            raise CheckpointError(
                f"`{index}` names a file outside its folder: `{shown(outside[0])}`",
                hint="put the file into the folder, and its bare name into the index",
            )
        return [root / name for name in sorted(set(names.values()))], document
    found = sorted(root.glob("*.safetensors"))
    if len(found) == 1 and not (root / "adapter_config.json").is_file():
        return found, {}
    if not found and any(p.suffix in OTHER_WEIGHTS for p in root.iterdir()):
        raise CheckpointError(
            f"`{root}` has no safetensors weights", hint="save the model with `save_pretrained` first"
        )
    raise CheckpointError(
        f"`{root}` holds neither model.safetensors nor {INDEX}", hint=instead(root) or "name the folder of a model"
    )


def _open_shard(path: Path) -> Shard:
    with opened(path) as file:
        size = path.stat().st_size
        first = file.read(8)
        if first == b"version ":
            raise LfsPointer(f"`{path}` is a Git LFS pointer, not weights", hint="fetch it with `git lfs pull`")
        file.seek(0)
        try:
            header = headers.read(file, size)
        except FormatError as error:
            raise CheckpointError(f"`{path}`: {error.fact}", hint=error.hint or phrases.FETCH) from error
        file.seek(0)
        return Shard(path, file.read(header.data), header)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `CheckpointError`."""
    return json_file(path, CheckpointError)


def _refuse_quantized(root: Path, config: Mapping[str, Any]) -> None:
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
        raise Unsupported(
            f"`{root}` is quantised ({method}): merging would requantise every touched block and lose what the adapter "
            "changed",
            hint="merge into the unquantised base, or keep the adapter attached",
        )
