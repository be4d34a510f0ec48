"""What a `.nemo` holds: members of a tar that is not unpacked, files of a folder, or a file of tensors alone.

Nothing of it is written anywhere, so that a name can't lead out of a folder; a member is no longer than the tar is.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from adaptr.errors import AdaptrError, ConfigConflict, ConfigMissing, ForeignError, TensorAbsent, phrases, shown
from adaptr.foreign import stored
from adaptr.foreign.pieces import settings
from adaptr.untrusted import opened, whole
from adaptr_formats.nemo.named import SETTINGS, WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

#: Members of a tar, and bytes of a configuration, at most.
MOST, _LIMIT = 4096, 1 << 22
#: Where the parts of ranks lie: by tensor-parallel rank, or by that and the pipeline's.
_RANK = re.compile(r"(?:mp_rank_(?P<mp>\d{1,4})|tp_rank_(?P<tp>\d{1,4})_pp_rank_(?P<pp>\d{1,4}))/" + re.escape(WEIGHTS))


@dataclass(frozen=True)
class Opened:
    """`said`: the configuration. `ranks`: the tensors of each (pipeline rank, tensor-parallel rank); `joined`: whether
    they are one file of all.
    """

    said: Mapping[str, Any]
    ranks: Mapping[tuple[int, int], Mapping[str, Tensor]]
    joined: bool

    @classmethod
    def of(cls, file: Path) -> Opened:
        """Raises a `ForeignError` for what is damaged or no such file, `UnsafePickle` for more than tensors."""
        if file.name == SETTINGS:
            folder = file.parent
            names = {one.relative_to(folder).as_posix(): one for one in _weights(folder)}
            return cls(
                settings.fields(whole(file, _LIMIT), SETTINGS),
                _ranks(names, lambda name: stored.contents(names[name])[0]),
                WEIGHTS in names,
            )
        with opened(file) as stream:
            tarred = stream.read(512)[257:262] == b"ustar"
        if not tarred:
            return cls({}, {(0, 0): stored.contents(file)[0]}, True)
        with _members(file) as (members, take):
            if SETTINGS not in members:
                raise ConfigMissing(f"`{file}` holds no `{SETTINGS}`, which says what it is", hint=phrases.AGAIN)
            if members[SETTINGS].size > _LIMIT:
                raise ForeignError(f"`{SETTINGS}` has {members[SETTINGS].size} bytes", hint="get it again")
            said = settings.fields(take(SETTINGS).read(), SETTINGS)
            ranks = _ranks(members, lambda name: stored.unpickled(take(name), f"{file}:{name}"))
            return cls(said, ranks, WEIGHTS in members)


def _weights(folder: Path) -> Iterator[Path]:
    yield from (one for one in (folder / WEIGHTS, *folder.glob(f"*/{WEIGHTS}")) if one.is_file())


@contextmanager
def _members(file: Path) -> Iterator[tuple[dict[str, tarfile.TarInfo], Callable[[str], BinaryIO]]]:
    """The members of a tar by name, and what reads one."""
    try:
        with opened(file) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            found = _listed(tar, file.stat().st_size)

            def take(name: str) -> BinaryIO:
                part = tar.extractfile(found[name])
                raw = b"" if part is None else part.read()
                if len(raw) != found[name].size:
                    raise ForeignError(f"`{name}` is cut off", hint=phrases.FETCH)
                return io.BytesIO(raw)

            yield found, take
    except AdaptrError:
        raise
    except Exception as error:  # tarfile raises whatever the bytes lead it to
        raise ForeignError(f"`{file}` is cut off or damaged: {shown(str(error), 120)}", hint=phrases.FETCH) from None


def _listed(tar: tarfile.TarFile, size: int) -> dict[str, tarfile.TarInfo]:
    """Regular members by name. Raises `ForeignError` for names out of the tar, links, and sizes that can't be true."""
    found: dict[str, tarfile.TarInfo] = {}
    for count, one in enumerate(tar):
        name = one.name.removeprefix("./")
        if count >= MOST:
            raise ForeignError(f"the tar has more than {MOST} members", hint="look whether it is the right file")
        if one.isdir():
            continue
        if not one.isreg() or one.issparse() or name.startswith("/") or ".." in name.split("/") or "\\" in name:
            raise ForeignError(f"`{shown(name)}` is no plain member of a tar", hint="get it again, from who trained it")
        if name in found or one.size > size:
            raise ForeignError(f"`{shown(name)}` is there twice, or longer than the tar", hint=phrases.FETCH)
        found[name] = one
    return found


def _ranks(
    names: Iterable[str], read: Callable[[str], Mapping[str, Tensor]]
) -> dict[tuple[int, int], Mapping[str, Tensor]]:
    """Raises `TensorAbsent` where there are none, or one of several is gone, `ConfigConflict` for two of one rank."""
    found = {(0, 0): WEIGHTS} if WEIGHTS in names else {}
    for name in names:
        match = _RANK.fullmatch(name)
        if match:
            other = found.setdefault((int(match["pp"] or 0), int(match["mp"] or match["tp"] or 0)), name)
            if other != name:
                raise ConfigConflict(f"`{other}` and `{name}` are of one rank", hint=phrases.AGAIN)
    pipeline, parallel = (1 + max((rank[axis] for rank in found), default=-1) for axis in (0, 1))
    gone = next(((p, t) for p in range(pipeline) for t in range(parallel) if (p, t) not in found), None)
    if not found or gone is not None:
        what = f"`{WEIGHTS}`" if gone is None else f"weights of pipeline rank {gone[0]}, tensor-parallel rank {gone[1]}"
        raise TensorAbsent(f"there are no {what}", hint=phrases.AGAIN)
    return {rank: read(found[rank]) for rank in sorted(found)}
