"""For llama.cpp's server and Ollama, which runs it: a folder with a GGUF LoRA, and for Ollama a Modelfile beside it.

Ollama's `create` took the Modelfile's `ADAPTER` until 0.34.1, which refuses it (ollama/ollama#14969); what was made
before still runs (generative-computing/mellea#1651, read 2026-11-29).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr import foreign, plugins, precision
from adaptr.contract.capabilities import LOW_RANK
from adaptr.converting.drop import numbered
from adaptr.converting.exporting import exported
from adaptr.converting.plain import plain, require_servable
from adaptr.converting.served import Served, said, served_of
from adaptr.errors import Unsupported, UsageError
from adaptr.files import replacing_folder, require_folder
from adaptr.format import digest
from adaptr.format.finite import require_finite
from adaptr.results import about
from adaptr.serving import GGUF
from adaptr.serving.versions import parsed
from adaptr.sources.given import Given, one
from adaptr.sources.naming import of_opened
from adaptr.sources.open import open_adapter, reads
from adaptr.sources.resolve import Place, grounded

if TYPE_CHECKING:
    import torch
    from torch import nn

    from adaptr.adapter import Adapter

FILE, MODELFILE = "adapter.gguf", "Modelfile"
#: The first Ollama whose `create` refuses adapters.
REFUSED_SINCE = "0.34.1"
_LORA = f"llama-server -m BASE.gguf --lora {FILE}"
_ELSE = f"run llama.cpp's own (`{_LORA}`), or merge it (`adaptr merge`), convert the model and create from that"
#: What each server is told.
FLAGS = {
    "llama-server": f"--lora {FILE}",
    "ollama": f"ollama create NAME -f {MODELFILE}, before {REFUSED_SINCE}; with a newer one {_ELSE}",
}


def of(server: str) -> str | None:
    """Which of the two `SERVER` or `SERVER@VERSION` is; None for another."""
    name = server.partition("@")[0]
    return name if name in GGUF else None


def serve(
    source: Given,
    out: str | os.PathLike[str],
    server: str,
    *,
    rank: int | None = None,
    force: bool = False,
    base: nn.Module | Place | None = None,
    dtype: str | torch.dtype | None = None,
    drop: str | Iterable[int] | None = None,
) -> Served:
    """As `serving.serve`. Raises `Unsupported` for a version of Ollama that takes no adapter, and for what the format
    has no place for, `ConfigMissing` without a base where the adapter doesn't know its heads.
    """
    name, what, stored_as = server.partition("@")[0], one(source), precision.called(dtype)
    _require_version(server)
    if rank is not None and rank < 1:
        raise UsageError("the rank", got=rank, want="1 or more")
    require_folder(out := Path(out), force, reads(what, base))
    base = grounded(base)
    found, gone = open_adapter(what, base), None if drop is None else numbered(drop)
    require_finite(found.adapter, found.given)
    adapter, error = served_of(found.adapter, gone, base), 0.0
    if stored_as or not _fits(adapter, rank):
        require_servable(adapter, name)
        adapter, error = plain(adapter, rank or 0, precision.named(stored_as))
        adapter = adapter.replace(**about.kept(found.adapter))
    lineage = {"operation": "convert", "arguments": said(server, rank, stored_as, gone), "parents": [of_opened(found)]}
    form, adapter = foreign.get("gguf"), exported(adapter.replace(lineage=lineage), base)
    adapter = adapter if base is None else form.based(adapter, base)
    with replacing_folder(out, force) as folder:
        form.write(adapter, folder / FILE, lossy=True)  # what is lost is of training alone
        if name == "ollama":
            (folder / MODELFILE).write_text(_modelfile(adapter), encoding="utf-8")
    r = max(int(target.config["r"]) for target in adapter.targets.values())
    counted = (found.adapter.method, r, len(adapter.targets), error)
    return Served(found.given, str(out), name, *counted, FLAGS[name], digest.of_file(out / FILE))


def _fits(adapter: Adapter, rank: int | None) -> bool:
    """Whether it is a LoRA already, of no higher rank: then it is written as it is, each layer with its own."""
    ranks = [target.config.get("r", 0) for target in adapter.targets.values()]
    return adapter.method == plugins.default(LOW_RANK) and (rank is None or max(ranks, default=0) <= rank)


def _require_version(server: str) -> None:
    name, at, version = server.partition("@")
    if name == "ollama" and at and parsed(version) >= parsed(REFUSED_SINCE):
        raise Unsupported(
            f"Ollama {version} creates nothing with an adapter: `ADAPTER` is refused since {REFUSED_SINCE}", hint=_ELSE
        )


def _modelfile(adapter: Adapter) -> str:
    trained = f"# Trained on {adapter.base.id}.\n" if adapter.base.id else ""
    return (
        f"# Ollama before {REFUSED_SINCE} alone: `ollama create NAME -f {MODELFILE}`. Newer ones refuse ADAPTER.\n"
        f"{trained}# FROM: the base as a GGUF file, or as Ollama calls it.\n"
        f"FROM ./base.gguf\nADAPTER ./{FILE}\n"
    )
