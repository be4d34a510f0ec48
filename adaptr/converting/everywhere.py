"""An adapter in every format that can hold it, in one folder, with the reason for each that it is not in."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import foreign
from adaptr.converting.convert import ConvertReport, convert
from adaptr.errors import AdaptrError
from adaptr.files import replacing_folder
from adaptr.foreign import formats
from adaptr.sources.given import Given, one

if TYPE_CHECKING:
    from torch import nn

    from adaptr.sources.resolve import Place


@dataclass(frozen=True)
class EverywhereReport:
    """`written`: what the conversion to each format did. `refused`: format to the reason why it is not in that."""

    out: str
    written: Mapping[str, ConvertReport]
    refused: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        written = {name: report.as_dict() for name, report in self.written.items()}
        return {"out": self.out, "written": written, "refused": dict(self.refused)}


def everywhere(
    source: Given,
    out: str | os.PathLike[str],
    lossy: bool = False,
    force: bool = False,
    base: nn.Module | Place | None = None,
) -> EverywhereReport:
    """Write the adapter at `source` into the folder `out`, in each format under its name, as `convert` does.

    Where a format refuses, nothing of it is there and the reason is in the report; adaptr's own holds everything.
    Raises `OutputExists` unless `force`, and what reading the source raises.
    """
    what, out = one(source), Path(out)
    written: dict[str, ConvertReport] = {}
    refused: dict[str, str] = {}
    with replacing_folder(out, force) as folder:
        for name in formats.choices():
            place = _called(name)
            try:
                report = convert(what, folder / place, name, lossy, base=base)
            except AdaptrError as error:
                if name == foreign.OWN:
                    raise  # it can't be read
                refused[name] = str(error)
            else:
                written[name] = dataclasses.replace(report, out=str(out / place))
    return EverywhereReport(str(out), written, refused)


def _called(name: str) -> str:
    """The file, or the folder, of a format."""
    form = None if name == foreign.OWN else foreign.get(name)
    if form is not None and form.folder:
        return name
    return name + (".safetensors" if form is None else form.suffix)
