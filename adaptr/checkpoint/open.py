"""Open a checkpoint: a folder of safetensors shards, one safetensors file, a Hub cache folder, or a pipeline of
diffusers. Headers only, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adaptr.checkpoint import described, packed
from adaptr.checkpoint.astray import instead
from adaptr.checkpoint.parts import OTHER_WEIGHTS, Part, parts
from adaptr.checkpoint.stored import Shard, Stored
from adaptr.errors import CheckpointError, FormatError, InputError, LfsPointer, Unsupported, phrases
from adaptr.files import record
from adaptr.files.linked import require_inside, snapshot
from adaptr.format import header as headers
from adaptr.format import manifest as manifests
from adaptr.format.gguf import MAGIC, is_gguf
from adaptr.networks import PUBLISHED
from adaptr.packings import Packing
from adaptr.untrusted import opened

#: How names of scales end, whose weights are codes.
SCALES = (".weight_scale", ".weight_scale_inv", ".weight_scale_2", ".SCB")


@dataclass(frozen=True)
class Checkpoint:
    """A base model on disk. `config` is its config.json, `index` the shard index as read (empty for one file).

    `tensors`: as the model has them; `stored`: as the files have them, where `packing` says that weights are packed,
    else nothing. `components`: of a pipeline, the folders that it is in, by which the names of its tensors begin;
    it has neither configuration nor index.
    """

    root: Path
    shards: tuple[Shard, ...]
    tensors: Mapping[str, Stored]
    config: Mapping[str, Any]
    index: Mapping[str, Any]
    components: tuple[str, ...] = ()
    packing: Packing | None = None
    stored: Mapping[str, Stored] = field(default_factory=dict)

    @property
    def lying(self) -> Mapping[str, Stored]:
        """The tensors as the files have them."""
        return self.stored or self.tensors

    @property
    def nbytes(self) -> int:
        return sum(shard.header.end for shard in self.shards)

    @property
    def in_gguf(self) -> bool:
        """Whether it is a GGUF file, llama.cpp's."""
        return any(shard.raw.startswith(MAGIC) for shard in self.shards)

    @property
    def of_images(self) -> bool:
        """Whether it is of an image model: a pipeline, or a published file of one."""
        return bool(self.components) or any(name.startswith(PUBLISHED) for name in self.tensors)

    def side_files(self) -> dict[str, Path]:
        """What travels with the weights, by where it is in the folder: configuration, tokenizer, index, licence; not
        the same weights in other formats.
        """
        if not self.root.is_dir():
            return {}
        found = _beside(self.root, "")
        for component in self.components:
            found |= _beside(self.root / component, f"{component}/")
        return found


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint. Raises `CheckpointError` if it is incomplete or malformed, `Unsupported` if it is packed in a
    way that is not known, `InputError` for a link that leads out of it.
    """
    root = snapshot(Path(path))
    if not root.exists():
        raise InputError(f"there is no checkpoint at `{path}`", hint=instead(Path(path)))
    if is_gguf(root):
        return _gguf(root)
    found = parts(root)
    shards = tuple(_open_shard(root, part, file) for part in found for file in part.files)
    if any(manifests.KEY in shard.header.metadata for shard in shards):
        raise CheckpointError(f"`{path}` is an adapter", want="a base checkpoint")
    tensors = {name: Stored(name, shard, entry) for shard in shards for name, entry in shard.header.entries.items()}
    if len(tensors) != sum(len(shard.header.entries) for shard in shards):
        raise CheckpointError(
            f"`{root}`: two shards hold a tensor of the same name", hint="save it again from the model"
        )
    lost = sorted(
        {f"{part.prefix}{name}" for part in found for name in part.index.get("weight_map", {})} - set(tensors)
    )
    if lost:
        raise CheckpointError(
            f"`{root}`: the index names `{lost[0]}`, which no shard holds",
            hint="get the missing shards, or save it again from the model",
        )
    config = _config(root, found)
    one = not found[0].component
    components = tuple(part.component for part in found if part.component)
    checkpoint = Checkpoint(root, shards, tensors, config if one else {}, found[0].index if one else {}, components)
    if root.is_dir():
        files = [file for part in found for file in part.files]
        require_inside(root, [*files, *checkpoint.side_files().values()])
    return _unpacked(checkpoint)


def _gguf(root: Path) -> Checkpoint:
    from adaptr.checkpoint.gguf import opened_gguf

    shard, tensors, lying, config = opened_gguf(root)
    return Checkpoint(root, (shard,), tensors, config, {}, stored=lying)


def _unpacked(checkpoint: Checkpoint) -> Checkpoint:
    """With the weights that lie packed as the model has them."""
    packing = packed.packing_of(checkpoint.config, checkpoint.root)
    if packing is None:
        _require_floats(checkpoint)
        return checkpoint
    tensors = packed.weights(packing, checkpoint.config, checkpoint.shards, checkpoint.tensors)
    return replace(checkpoint, tensors=tensors, stored=checkpoint.tensors, packing=packing)


def _config(root: Path, found: Sequence[Part]) -> Mapping[str, Any]:
    """The configuration of the last part, each looked at. Raises `Unsupported` for a component that is packed."""
    config: Mapping[str, Any] = {}
    for part in found:
        folder = root / part.component
        file = folder / "config.json"
        config = described.quantised(folder, described.read(file)) if root.is_dir() and file.exists() else {}
        if part.component and config.get("quantization_config"):
            raise Unsupported(
                f"`{folder}` is quantised, and components of pipelines that are can't be read",
                hint="use the unquantised pipeline",
            )
    return config


def _beside(folder: Path, above: str) -> dict[str, Path]:
    """The files of one folder that are no weights, and weights that have no other form there."""
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != record.NAME]
    whole = any(path.suffix == ".safetensors" for path in found) or not above
    forms = {".safetensors", *(OTHER_WEIGHTS if whole else ())}
    return {f"{above}{path.name}": path for path in found if path.suffix not in forms}


def _open_shard(root: Path, part: Part, path: Path) -> Shard:
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
        name = path.relative_to(root).as_posix() if path != root else path.name
        return Shard(path, file.read(header.data), headers.prefixed(header, part.prefix), name, part.prefix)


def _require_floats(checkpoint: Checkpoint) -> None:
    """Raises `CheckpointError` for scales of packed weights where no configuration says how they are packed."""
    scales = next((name for name in checkpoint.tensors if name.endswith(SCALES)), "")
    if scales:
        raise CheckpointError(
            f"`{checkpoint.root}`: `{scales}` is of weights that lie packed, and no configuration says how",
            hint="get the `config.json` whose `quantization_config` does; ModelOpt also wrote `hf_quant_config.json`",
        )
