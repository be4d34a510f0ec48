"""OpenDelta's folders: `config.json` with its `delta_type`, and `pytorch_model.bin` of all that was trained, at the
model's own paths.

Its lora, adapter, low-rank adapter (rank 1, as its product of W_left and W_right is one by elements), Compacter (`phm`,
as each projection has rules of its own), parallel adapter, prefix, bitfit and soft prompt are read; trained parameters
of the model itself come along. Its adapters are `houlsby`, at whichever module they are. Where a parallel adapter ends,
and which attentions the network of a prefix is for, only its walk through the base says, which is done again: that
takes the base. Prefixes are those of GPT-2, BERT, RoBERTa and BART: with T5's it leaves out biases of positions, and of
DistilBERT's its code says that they have bugs. Of bitfit no genuine file was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import ForeignError
from adaptr.foreign import NOTHING, Format, Supplied
from adaptr_formats.opendelta.named import SETTINGS, WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.seen import Seen


class Opendelta(Format):
    name = "opendelta"
    tool = "OpenDelta"
    called = "a delta of OpenDelta"

    def locate(self, seen: Seen) -> Path | None:
        """A folder that looks as a model's does, and whose configuration says that it is none."""
        if not {SETTINGS, WEIGHTS} <= seen.files or "opendelta_version" not in _said(seen.path):
            return None
        return seen.path / WEIGHTS

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr_formats.opendelta import reading

        weights = self.weights(path)
        return reading.read(weights, _said(weights.parent), base)


def _said(folder: Path) -> Mapping[str, Any]:
    """Its configuration; that of another sort of folder may be anything."""
    from adaptr.untrusted import json_file

    try:
        return json_file(folder / SETTINGS, ForeignError, 1 << 24)
    except ForeignError:
        return {}
