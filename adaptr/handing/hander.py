"""From the name in a request to the folder that vLLM loads: pulled, held against the policy, converted, kept."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adaptr.converting.serving import serve
from adaptr.errors import BadReference, OutputExists
from adaptr.files.home import home, made
from adaptr.registry import local
from adaptr.registry.reference import parse
from adaptr.registry.signing import scopes
from adaptr.sources.resolve import Source
from adaptr.version import __version__

log = logging.getLogger("adaptr")
#: Where in `ADAPTR_HOME` the folders are.
PLACE = "served"


@dataclass(frozen=True)
class Hander:
    """`allowed`: what requests may name, as a policy's scopes are written, those without a scheme being of names in the
    store. `server`: vLLM with its version. `base`: its folder, where what vLLM calls it doesn't say.
    """

    allowed: tuple[str, ...]
    server: str
    base: str = ""

    def folder(self, base_model: str, name: str) -> Path | None:
        """The folder with what `name` means for `base_model`; None for what no request may name.

        Raises `PolicyError` for what this machine does not take, and what pulling and converting raise.
        """
        source = self._meant(name)
        if source is None:
            return None
        digest, base = source.artifact(), Path(self.base) if self.base else of_served(base_model)
        if base is None:
            log.warning("no folder of `%s` is known, so names of layers are not held against it", base_model)
        said = "\0".join((digest, str(base or base_model), self.server, __version__))
        out = made(home() / PLACE) / hashlib.sha256(said.encode()).hexdigest()
        if not out.is_dir():
            with suppress(OutputExists):  # by another process, at the same time
                serve(source, out, self.server, base=base)
        return out

    def _meant(self, name: str) -> Source | None:
        """What a request means, never a path of this machine."""
        try:
            reference = parse(name)
        except BadReference:
            return None
        if not reference.scheme:
            return Source(name, None, name) if local.has(name) and self._allows([name, str(reference)]) else None
        if "%" in name or {"..", "."} & set(reference.name.split("/")):
            return None
        return Source(name, None, reference) if self._allows(scopes.names(reference), "://") else None

    def _allows(self, names: Iterable[str], mark: str = "") -> bool:
        """Whether a scope of those with a scheme, or without, has one of the names."""
        names = list(names)
        return any(scopes.fits(names, scope) for scope in self.allowed if ("://" in scope) == bool(mark))


def of_served(model: str) -> Path | None:
    """The folder of the model that vLLM serves: a folder, or the Hub's cache of a name; None where it is in neither."""
    if os.path.isdir(model):
        return Path(model)
    root = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(root) / "hub")
    found = cache / f"models--{model.replace('/', '--')}"
    return found if (found / "snapshots").is_dir() else None
