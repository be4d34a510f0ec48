"""Images and sounds of records: numbers, bytes, or files in the folder of the data, and nowhere else."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from adaptr.data.records import Place
from adaptr.errors import AdaptrError, BadRecord, MissingExtra, shown
from adaptr.untrusted import whole

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

#: Pixels of an image, and bytes of a file of one record.
MAX_PIXELS, MAX_FILE = 64 << 20, 256 << 20


@dataclass(frozen=True)
class Medium:
    """What a record has in a column, and where it stands, so that what opens it later can say so."""

    what: object
    place: Place

    def bytes(self) -> bytes:
        """Of a file or of the record itself. Raises `BadRecord`."""
        if isinstance(self.what, Mapping) and isinstance(self.what.get("bytes"), bytes):
            return cast("bytes", self.what["bytes"])
        path = self.what.get("path") if isinstance(self.what, Mapping) else self.what
        try:
            return whole(inside(str(path), self.place), MAX_FILE)
        except BadRecord:
            raise
        except AdaptrError as error:
            raise self.place.bad(str(error)) from None


def inside(name: str, place: Place) -> Path:
    """A file that a record names, from the folder of the data. Raises `BadRecord` for one outside of it."""
    data = Path(place.file)
    root = data if data.is_dir() else data.parent
    found = root / name
    if not found.resolve().is_relative_to(root.resolve()):
        raise place.bad(f"`{shown(name)}` is outside the data's folder", hint="put it beside the data")
    if not found.is_file():
        raise place.bad(f"there is no file `{shown(name)}` in the data's folder")
    return found


def picture(medium: Medium) -> Image:
    """An image in colours. Raises `BadRecord`, also for one of too many pixels, and `MissingExtra`."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("images need Pillow", hint="`pip install pillow`") from None
    if isinstance(medium.what, list):
        return Image.fromarray(_pixels(medium))
    try:
        with Image.open(io.BytesIO(medium.bytes())) as found:
            if found.width * found.height > MAX_PIXELS:
                raise medium.place.bad(f"the image has {found.width} x {found.height} pixels", want=f"{MAX_PIXELS}")
            return found.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise medium.place.bad(f"the image can't be read: {shown(str(error), 120)}") from None


def _pixels(medium: Medium) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A list of rows, of columns, of colours from 0 to 255."""
    import numpy as np

    try:
        found = np.asarray(medium.what, dtype=np.float64)
    except (ValueError, TypeError):
        raise medium.place.bad("the pixels are no array of numbers") from None
    if found.ndim != 3 or found.shape[2] != 3 or not np.all((found >= 0) & (found <= 255)):
        raise medium.place.bad("the pixels", got=f"of shape {found.shape}", want="(height, width, 3), from 0 to 255")
    return found.astype(np.uint8)


def sound(medium: Medium, rate: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Samples, from -1 to 1, at `rate` Hz. Raises `BadRecord`, also for another rate, and `MissingExtra`."""
    samples, found = _samples(medium)
    if found != rate:
        raise medium.place.bad(f"the sound has {found} samples a second", want=f"{rate}, as the base heard")
    return samples


def _samples(medium: Medium) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], int]:
    import numpy as np

    what = medium.what
    if isinstance(what, Mapping) and isinstance(what.get("array"), Sequence):
        try:
            return np.asarray(what["array"], dtype=np.float32), int(what.get("sampling_rate") or 0)
        except (ValueError, TypeError):
            raise medium.place.bad("the sound is no array of numbers") from None
    raw = medium.bytes()
    try:
        with wave.open(io.BytesIO(raw)) as file:
            if file.getsampwidth() == 2:
                data = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32) / 32768
                return data.reshape(-1, file.getnchannels()).mean(axis=1), file.getframerate()
    except (wave.Error, EOFError, ValueError):
        pass
    return _decoded(medium, raw)


def _decoded(medium: Medium, raw: bytes) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], int]:
    """Of whatever else soundfile knows."""
    try:
        import soundfile
    except ImportError:
        hint = "`pip install soundfile` reads others"
        raise medium.place.bad("the sound is no WAV file of 16 bits", hint=hint) from None
    try:
        data, rate = soundfile.read(io.BytesIO(raw), dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as error:
        raise medium.place.bad(f"the sound can't be read: {shown(str(error), 120)}") from None
    return data.mean(axis=1), int(rate)
