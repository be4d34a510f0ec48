"""pyreft's folders: `config.json`, and for each intervention `intkey_KEY.bin`.

LoReFT has `rotate_layer` (d, r), `weight` and `bias`; NoReFT `proj_layer` and `learned_source`; DiReFT its basis as
torch trains it. NodiReFT and LobiReFT are forms of `direft`, ConsReFT of `loreft`: W is zero in the last two. At how
many tokens it was trained no file says, so that it is asked for; what adaptr writes says it. Two interventions at a
layer are those of the first tokens and of the last. Of a prompt shorter than both ends pyreft has each end at half of
it, adaptr the first before the last. A non-linearity that was trained with is in no file: pyreft itself loads without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import NOTHING, Format, Supplied, Written
from adaptr_formats.pyreft.named import BEGINS, ENDS, SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.seen import Seen


class Pyreft(Format):
    name = "pyreft"
    tool = "pyreft"
    called = "a ReFT of pyreft"
    asks = frozenset({"positions"})

    def locate(self, seen: Seen) -> Path | None:
        """The first of its files."""
        named = sorted(name for name in seen.files if name.startswith(BEGINS) and name.endswith(ENDS))
        return seen.path / named[0] if named and SETTINGS in seen.files else None

    def beside(self, file: Path) -> tuple[str, ...]:
        return tuple(name for name in super().beside(file) if not name.startswith(BEGINS))

    def files(self, file: Path) -> tuple[Path, ...]:
        named = (one for one in file.parent.iterdir() if one.name.startswith(BEGINS) and one.name.endswith(ENDS))
        return (file.parent / SETTINGS, *sorted(named))

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr_formats.pyreft.reading import read

        return read(self.weights(path), base, supplied)

    def lost(self, adapter: Adapter) -> list[str]:
        from adaptr_formats.pyreft.writing import lost

        return lost(adapter)

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        from adaptr_formats.pyreft.writing import save

        return save(adapter, out, force)
