"""What the keys of files mean to a model: read as `from_pretrained` reads them, by transformers' own list."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from torch import nn

from adaptr.adapter import Target
from adaptr.adapter.paths import bare
from adaptr.targets import submodule

#: What tools put before the names of what they wrap.
BEFORE = ("base_model.model.", "module.")
WEIGHT = ".weight"


def has(model: nn.Module, path: str) -> bool:
    """Whether `model` has a module or a parameter at `path`."""
    owner, _, name = path.rpartition(".")
    try:
        module = submodule(model, owner)
    except AttributeError:
        return False
    return name in module._modules or name in module._parameters or hasattr(module, name)


class Spellings:
    """What the keys of files mean to a model, which it does not keep alive."""

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)
        self.modules = sum(1 for _ in model.modules())
        self.prefix = str(getattr(model, "base_model_prefix", "") or "")
        self.names = _names(model)
        self._read = _reader(model)

    @property
    def model(self) -> nn.Module:
        model = self._model()
        assert model is not None
        return model

    def read(self, key: str) -> tuple[str, Any]:
        """The parameter that a key of a checkpoint is read into, and what joins, splits or turns it on the way."""
        return self._read(key, self.prefix, self.names)

    def path(self, path: str, target: Target | None) -> str:
        """What the model calls the place at `path`, "" where it has none."""
        return next((new for name in _unwrapped(path) if (new := self._path(name, target))), "")

    def _path(self, path: str, target: Target | None) -> str:
        if has(self.model, path):
            return path
        # the patterns are those of parameters: a module's name must be seen to end
        end = "" if target is None or target.kind in {"experts", "experts_t"} else WEIGHT
        name, conversion = self.read(path + end)
        new = name.removesuffix(end)
        return new if conversion is None and has(self.model, new) else ""

    @cached_property
    def parts(self) -> list[tuple[str, Spellings]]:
        """The models inside the model, by their paths: each may have been trained alone."""
        modules = self.model.named_modules()
        return [(path, Spellings(m)) for path, m in modules if path and hasattr(m, "base_model_prefix")]


#: Of the models that were asked about, as long as they live.
_KNOWN: weakref.WeakKeyDictionary[nn.Module, Spellings] = weakref.WeakKeyDictionary()


def spellings_of(model: nn.Module) -> Spellings:
    """Made once for a model as it is, since thousands of names may be asked for."""
    found = _KNOWN.get(model)
    if found is None or found.modules != sum(1 for _ in model.modules()):
        found = _KNOWN[model] = Spellings(model)
    return found


def _unwrapped(path: str) -> Iterator[str]:
    """`path`, and what it is without the names of wrappers."""
    yield path
    found = bare(path)
    if found != path:
        yield found
    while mark := next((mark for mark in BEFORE if found.startswith(mark)), ""):
        found = found.removeprefix(mark)
        yield found


def _names(model: nn.Module) -> dict[str, bool]:
    """All parameters and buffers, and the weight that each module may have."""
    found = [f"{path}{WEIGHT}" for path, _ in model.named_modules()]
    found += [name for name, _ in model.named_parameters(remove_duplicate=False)]
    return dict.fromkeys([*found, *(name for name, _ in model.named_buffers())], True)


Reader = Callable[[str, str, dict[str, bool]], tuple[str, Any]]


def _reader(model: nn.Module) -> Reader:
    """How `from_pretrained` reads the keys of a checkpoint of this model."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
    except ImportError:
        return lambda key, prefix, names: (key, None)
    if not hasattr(model, "config") or not hasattr(model, "base_model_prefix"):
        return lambda key, prefix, names: (key, None)
    known = get_model_conversion_mapping(model)
    renamings = [r for r in known if isinstance(r, WeightRenaming)]
    converters = [c for c in known if isinstance(c, WeightConverter)]
    conversions = {pattern: c for c in converters for pattern in c.source_patterns}

    def read(key: str, prefix: str, names: dict[str, bool]) -> tuple[str, Any]:
        name, pattern = rename_source_key(key, renamings, converters, prefix, names)
        if name not in names and key in names:
            name, pattern = rename_source_key(key, [], [], prefix, names)
        return name, conversions.get(pattern)

    return read
