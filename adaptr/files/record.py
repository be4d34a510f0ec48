"""What adaptr wrote into a folder: a record in it, by which everything else is known as somebody else's.

The record names each file with a fingerprint. The same files give the same record, wherever they lie and whenever they
were written. Outputs of adaptr 0.1.0 have none: they are known by their receipt, or by the header of the one adapter
in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Set
from pathlib import Path, PurePosixPath
from typing import Any

#: Its name is none that a loader, an artifact or a checkpoint's index could have.
NAME = ".adaptr-record"
FORMAT = 1
LIMIT = 16 << 20
#: A longer file is known by its size and this many blocks of it: hashing a model again would take as long as the merge.
BLOCK, BLOCKS = 4096, 64
#: How the header of a safetensors file begins that adaptr wrote: an adapter, a receipt, PEFT's weights.
OURS = b'{"__metadata__":{"adaptr'
#: The same of a GGUF file, behind its magic, version and two counts: the length and the name of its first value.
GGUF, GGUF_COUNTS, OUR_GGUF = b"GGUF", 24, b"\x0c\0\0\0\0\0\0\0adaptr.about"
#: What 0.1.0 wrote, and beside a merge what it copied from the base without naming it in the receipt.
RECEIPT, RECEIPT_KEY = "adaptr/receipt.safetensors", "adaptr-receipt"
ADAPTER, PEFT = "adapter.adaptr.safetensors", ("adapter_config.json", "adapter_model.safetensors")
COPIED = (
    "config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt",
    "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja", "chat_template.json", "preprocessor_config.json",
    "processor_config.json", "video_preprocessor_config.json",
)  # fmt: skip


def write(folder: Path) -> None:
    """Record all files that are in `folder` now as adaptr's."""
    _put(folder, {name: fingerprint(path) for name, path in _walked(folder) if name != NAME})


def add(folder: Path, file: Path) -> None:
    """Record one more file in `folder`, if it has a record."""
    known = _recorded(folder)
    if known is not None:
        _put(folder, {**known, file.name: fingerprint(file)})


def strangers(folder: Path) -> Iterator[str]:
    """What lies in `folder` and is not as adaptr wrote it: added, changed, a link, or a folder with nothing of it."""
    recorded = _recorded(folder)
    known = _unrecorded(folder) if recorded is None else {**recorded, NAME: ""}
    folders = {parent.as_posix() for name in known for parent in PurePosixPath(name).parents}
    for name, path in _walked(folder, folders):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) or name not in known:
            yield f"{name}/" if stat.S_ISDIR(mode) else name
        elif known[name] and known[name] != fingerprint(path):
            yield f"{name} (changed since)"


def knows(folder: Path, name: str, file: Path) -> bool:
    """Whether `file` is as the record of `folder` has it under `name`."""
    return (_recorded(folder) or {}).get(name) == fingerprint(file)


def fingerprint(path: Path) -> str:
    """A digest of a file's size and content, of evenly spaced blocks where it is long; "unreadable" if it is that."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(f"{size}\n".encode())
            for block in range(BLOCKS):
                long = size > BLOCK * BLOCKS
                at = block * (size - BLOCK) // (BLOCKS - 1) if long else block * BLOCK
                digest.update(os.pread(file.fileno(), BLOCK, at))
    except OSError:
        return "unreadable"
    return "sha256:" + digest.hexdigest()


def is_ours(path: Path) -> bool:
    """Whether adaptr wrote a safetensors or GGUF file, by its first bytes."""
    try:
        start = _start(path, GGUF_COUNTS + len(OUR_GGUF))
    except OSError:
        return False
    return start[8:].startswith(OURS) or (start.startswith(GGUF) and start[GGUF_COUNTS:] == OUR_GGUF)


def _walked(folder: Path, into: Set[str] | None = None, above: str = "") -> Iterator[tuple[str, Path]]:
    """Name and path of all that is in a folder, links not followed. `into`: the folders in it that are looked into, all
    by default; others are told as they are.
    """
    with os.scandir(folder) as entries:
        found = sorted(Path(entry.path) for entry in entries)
    for path in found:
        name = above + path.name
        if path.is_dir() and not path.is_symlink() and (into is None or name in into):
            yield from _walked(path, into, f"{name}/")
        else:
            yield name, path


def _put(folder: Path, files: Mapping[str, str]) -> None:
    document = {"format": FORMAT, "files": dict(sorted(files.items()))}
    (folder / NAME).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _recorded(folder: Path) -> dict[str, str] | None:
    """The record of a folder; None where there is none that can be read."""
    try:
        document = json.loads(_start(folder / NAME, LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    files = document.get("files") if isinstance(document, dict) and document.get("format") == FORMAT else None
    return {str(name): str(said) or "none" for name, said in files.items()} if isinstance(files, dict) else None


def _unrecorded(folder: Path) -> dict[str, str]:
    """The files that adaptr 0.1.0 wrote into a folder; none where it was not adaptr."""
    if is_ours(folder / RECEIPT):
        kept = (path for path in (folder / RECEIPT).parent.rglob("*.safetensors") if is_ours(path))
        names = [*_shards(folder / RECEIPT), *COPIED, *(path.relative_to(folder).as_posix() for path in kept)]
    elif is_ours(folder / PEFT[1]):
        names = [*PEFT]
    else:
        names = [ADAPTER] if is_ours(folder / ADAPTER) else []
    return dict.fromkeys(names, "")


def _shards(receipt: Path) -> list[str]:
    """The weights' files that a receipt names."""
    try:
        first = _start(receipt, 8)
        header: Any = json.loads(_start(receipt, 8 + min(int.from_bytes(first, "little"), LIMIT))[8:])
        return [str(name) for name in json.loads(header["__metadata__"][RECEIPT_KEY])["base"]["headers"]]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return []


def _start(path: Path, count: int) -> bytes:
    """The first bytes of a regular file: nothing else is waited for."""
    if not path.is_file():
        raise FileNotFoundError(path)
    with open(path, "rb") as file:
        return file.read(count)
