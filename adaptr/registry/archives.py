"""Archives told by their bytes: what a layer is called, and of which type, is for whoever packed it to say."""

from __future__ import annotations

from pathlib import Path

from adaptr.untrusted import opened

#: How archives and what packs them begin.
STARTS = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"PK\x07\x08": "zip", b"\x1f\x8b\x08": "gzip",
    **{b"BZh%d1AY&SY" % level: "bzip2" for level in range(1, 10)}, b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d": "compress", b"070701": "cpio", b"070702": "cpio", b"!<arch>\n": "ar",
}  # fmt: skip
#: A tar archive's first header: its magic (POSIX.1-1988; older ones have none), and its checksum in octal digits.
_HEADER, _MAGIC, _AT, _SUM = 512, b"ustar", 257, slice(148, 156)


def kind(path: Path) -> str:
    """What archive a file is, or ""."""
    with opened(path) as file:
        first = file.read(_HEADER)
    if first.startswith(_MAGIC, _AT) or _sums_up(first):
        return "tar"
    return next((name for start, name in STARTS.items() if first.startswith(start)), "")


def _sums_up(first: bytes) -> bool:
    """Whether the bytes are the header of a tar archive by its checksum, in which the digits count as spaces."""
    digits = first[_SUM].strip(b" \0")
    if len(first) < _HEADER or not digits or digits.strip(b"01234567"):
        return False
    return int(digits, 8) == sum(first) - sum(first[_SUM]) + 8 * ord(" ")
