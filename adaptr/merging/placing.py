"""Where a checkpoint goes that a merge or unmerge writes, and where its receipt is: in its folder, or beside its file.

A base that is one file may become one file: `-o OUT.safetensors`, and a GGUF file must: `-o OUT.gguf`. Its receipt is
in a folder, `OUT.safetensors.adaptr`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptr.errors import UsageError
from adaptr.files import file_named, record, replacing_folder, require_apart, require_file, require_folder
from adaptr.format.gguf import is_gguf
from adaptr.merging.receipt import FOLDER, beside

#: How GGUF files, llama.cpp's, are called.
GGUF = ".gguf"
#: Where the file is while its receipt takes its place.
MADE = "made"


def is_file(base: Path, out: Path) -> bool:
    """Whether the output is to be one file, as the base is."""
    return base.is_file() and (out.suffix == ".safetensors" or is_gguf(base))


def place(base: Path, out: str | os.PathLike[str]) -> Path:
    """The output as people gave it. Raises `UsageError` for `name.safetensors/`, a folder, where it is one file."""
    return file_named(out, "what becomes of one file") if is_file(base, Path(out)) else Path(out)


def require(base: Path, out: Path, force: bool, inputs: Iterable[Path]) -> None:
    """Raises `OutputExists` where nothing may be written, before anything is, and `UsageError` where a base that is a
    folder would become a folder that is called as a file, or a file would be called as one of another format.
    """
    if (out.suffix == GGUF) != is_gguf(base):
        name = out.with_suffix(GGUF if is_gguf(base) else ".safetensors")
        raise UsageError(
            f"`{out}` is not called as what `{base}` becomes, which stays of its format", hint=f"say `-o {name}`"
        )
    if not is_file(base, out):
        require_folder(out, force, inputs)
        if base.is_dir() and out.suffix == ".safetensors":
            raise UsageError(
                f"`{out}` is called as a file, and the base is a folder, which becomes one",
                hint=f"say `-o {out.with_suffix('')}`",
            )
        return
    inputs = [*inputs]
    require_folder(beside(out), force, inputs)
    if force and out.is_file() and record.knows(beside(out), f"{MADE}/{out.name}", out):
        require_apart(out, inputs)
    else:
        require_file(out, force, inputs)


def made_in(folder: Path) -> Path:
    """The checkpoint in a folder that is being filled: the folder, or the GGUF file in it."""
    return next((path for path in folder.iterdir() if is_gguf(path)), folder)


@contextmanager
def placed(base: Path, out: Path, force: bool) -> Iterator[Path]:
    """A folder to fill with a checkpoint; it becomes `out` at the end of the block, or vanishes if the block fails."""
    if not is_file(base, out):
        with replacing_folder(out, force) as folder:
            yield folder
        return
    papers = beside(out)
    with replacing_folder(papers, force) as whole:
        folder = whole / MADE
        folder.mkdir()
        yield folder
        for path in (folder / FOLDER).iterdir() if (folder / FOLDER).is_dir() else ():
            path.rename(whole / path.name)
        if (folder / FOLDER).is_dir():
            (folder / FOLDER).rmdir()
        (made,) = folder.iterdir()
        made.rename(folder / out.name)
    # the file comes last: where it is, its receipt is too
    os.replace(papers / MADE / out.name, out)
    (papers / MADE).rmdir()
    if [path.name for path in papers.iterdir()] == [record.NAME]:  # of a base that has no receipt
        (papers / record.NAME).unlink()
        papers.rmdir()
