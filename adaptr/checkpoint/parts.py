"""The files that a checkpoint's tensors are in: one, shards with an index, or those of each component of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adaptr.checkpoint.astray import instead
from adaptr.errors import CheckpointError, shown
from adaptr.files.linked import is_name
from adaptr.untrusted import json_file

#: The index of transformers' shards.
INDEX = "model.safetensors.index.json"
#: What a pipeline of diffusers is known by: {component: [library, class]}.
PIPELINE = "model_index.json"
#: What transformers and diffusers call a model's weights.
STEMS = ("model", "diffusion_pytorch_model")
OTHER_WEIGHTS = frozenset({".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt", ".npz"})


@dataclass(frozen=True)
class Part:
    """Files whose tensors belong together, with the index that names them. `component`: the folder in a pipeline."""

    files: tuple[Path, ...]
    index: Mapping[str, Any] = field(default_factory=dict)
    component: str = ""

    @property
    def prefix(self) -> str:
        """What stands before the names of its tensors in the checkpoint."""
        return f"{self.component}." if self.component else ""


def parts(root: Path) -> list[Part]:
    """What is at `root`, one part at least. Raises `CheckpointError` where there are no weights."""
    if not root.is_dir():
        return [Part((root,))]
    if (root / PIPELINE).is_file():
        return _components(root)
    found = _saved(root) or _only(root)
    if found is not None:
        return [found]
    if any(path.suffix in OTHER_WEIGHTS for path in root.iterdir()):
        raise CheckpointError(
            f"`{root}` has no safetensors weights", hint="save the model with `save_pretrained` first"
        )
    raise CheckpointError(
        f"`{root}` holds neither model.safetensors nor {INDEX}", hint=instead(root) or "name the folder of a model"
    )


def _components(root: Path) -> list[Part]:
    """The components of a pipeline that are in folders there: those without weights too, for what else they hold."""
    names = [name for name, said in json_file(root / PIPELINE, CheckpointError).items() if isinstance(said, list)]
    outside = next((name for name in names if not is_name(name)), None)
    if outside is not None:
        raise CheckpointError(
            f"`{root / PIPELINE}` names a component outside its folder: `{shown(outside)}`",
            hint="save it again from the pipeline",
        )
    folders = [root / name for name in sorted(names) if (root / name).is_dir()]
    found = [_saved(folder, folder.name) or Part((), {}, folder.name) for folder in folders]
    if not any(part.files for part in found):
        raise CheckpointError(
            f"no component of `{root}` has safetensors weights",
            hint="save the pipeline with `save_pretrained(..., safe_serialization=True)`",
        )
    return found


def _saved(folder: Path, component: str = "") -> Part | None:
    """Weights under the names that libraries save them by; of a half-precision variant only where there is no other."""
    for name in (f"{stem}{variant}" for variant in ("", ".fp16", ".bf16") for stem in STEMS):
        single = folder / f"{name}.safetensors"
        if single.exists() or single.is_symlink():
            return Part((single,), {}, component)
        for index in _indices(folder, name):
            return _sharded(folder, index, component)
    return None


def _indices(folder: Path, name: str) -> Iterator[Path]:
    """An index is called after the files' stem, with the variant of its weights behind."""
    stem, _, variant = name.partition(".")
    index = folder / f"{stem}.safetensors.index{f'.{variant}' if variant else ''}.json"
    if index.exists():
        yield index


def _sharded(folder: Path, index: Path, component: str) -> Part:
    document = json_file(index, CheckpointError)
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
    return Part(tuple(folder / name for name in sorted(set(names.values()))), document, component)


def _only(root: Path) -> Part | None:
    """The one safetensors file of a folder, whatever it is called."""
    found = sorted(root.glob("*.safetensors"))
    return Part((found[0],)) if len(found) == 1 and not (root / "adapter_config.json").is_file() else None
