"""What happens to valid files: values of other types in their places, keys that go or come twice, bytes that flip.

Everything comes from one `random.Random`, so that a seed and a number name an example.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class Raw(str):
    """JSON as it is written, which no value could be written as."""


def _deep(levels: int) -> Raw:
    return Raw("[" * levels + "1" + "]" * levels)


#: What a field of another type, size or form may hold.
VALUES: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 7, 16, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, Raw("1" + "0" * 400), Raw("9" * 5000),
    Raw("1e308"), Raw("1e999"), Raw("-1e999"), Raw("NaN"), Raw("Infinity"), Raw("-0.0"), 0.5, -2.5, 1e-320, True, False,
    None, "", "x", "\x00", "\x1b[31m", "../../x", "/etc/passwd", "..", ".", "a/b", "a" * 2000, "\u202e\u200b", "é",
    "e\u0301", Raw('"\\ud800"'), Raw('"\\u0000"'), [], {}, [[]], [0], [-1], [None], ["a"], [1, 2, 3], {"a": 1},
    {"": ""}, {"*": 1}, {"a": {"b": {}}}, _deep(20), _deep(500), _deep(100_000), "lora", "dora", "stack", "full",
    "prefix", "linear", "embedding", "experts", "conv2d", "model", "LORA", "XLORA", "F32", "I8", "F4", "BOOL", "C64",
    "sha256:" + "0" * 64, "sha256:" + "0" * 64 + "\n", "(a+)+$", "[", "(?P<x>", "(.*a){25}", "all-linear", 1e20, 1e300,
)  # fmt: skip
KEYS = (
    "zz", "__metadata__", "../x", "\x01", "x" * 1500, "format", "a:b", ":", "r", "alpha", "weight", "é\u200b", "", "<<",
)  # fmt: skip


def dumped(value: Any) -> str:
    """JSON of a document with `Raw` parts."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(k), ensure_ascii=False)}:{dumped(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dumped, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document; of long lists only the start."""
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 6)) if isinstance(value, list) else []
    return [one for key in keys for one in ((value, key), *places(value[key]))]


def document(random: Random, valid: Any) -> Any:
    """A document with one or two places changed."""
    found = copy.deepcopy(valid)
    for _ in range(random.choice((1, 1, 1, 2))):
        where = places(found)
        if where:
            _change(random, *random.choice(where), where)
    return found


def _value(random: Random) -> Any:
    return copy.deepcopy(random.choice(VALUES))  # what is put into a document may be changed in it


def _change(random: Random, box: Any, key: Any, where: list[tuple[Any, Any]]) -> None:
    what = random.random()
    if what < 0.55:
        box[key] = _value(random)
    elif what < 0.68:
        del box[key]
    elif what < 0.78 and isinstance(box, dict):
        box[random.choice(KEYS)] = _value(random)
    elif what < 0.86 and isinstance(box, dict):
        box[random.choice((f"{key}x", key.upper(), key[:-1], f"..{key}", f"{key}\0"))] = box.pop(key)
    elif what < 0.93:
        other, at = random.choice(where)
        box[key] = copy.deepcopy(other[at]) if at in (other if isinstance(other, dict) else range(len(other))) else 0
    elif isinstance(box[key], int | float) and not isinstance(box[key], bool):
        box[key] = random.choice((box[key] + 1, -box[key], box[key] * 2, box[key] / 2, str(box[key])))
    else:
        box[key] = _value(random)


def text(random: Random, valid: Any) -> bytes:
    """JSON of a changed document, now and then with a key twice or with bytes changed."""
    found = document(random, valid)
    said = dumped(found)
    if isinstance(found, dict) and found and random.random() < 0.06:
        key = json.dumps(random.choice(list(found)), ensure_ascii=False)
        said = "{" + f"{key}:{dumped(_value(random))}," + said[1:]
    raw = said.encode("utf-8", "surrogatepass")
    return flipped(random, raw) if random.random() < 0.15 else raw


def flipped(random: Random, raw: bytes) -> bytes:
    """Bytes with a few of them changed, gone, inserted or doubled."""
    found = bytearray(raw)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        if not found:
            break
        what, at = random.random(), random.randrange(len(found))
        if what < 0.5:
            found[at] = random.choice((0, 255, random.randrange(256), *b'"{}[],\\'))
        elif what < 0.65:
            del found[at : at + random.choice((1, 4, 8, 100))]
        elif what < 0.8:
            found[at:at] = random.randbytes(random.choice((1, 3, 8)))
        elif what < 0.9:
            del found[at:]
        else:
            other = random.randrange(len(found))
            found[at : at + 8] = found[other : other + 8]
    return bytes(found)


def split(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and its data."""
    (count,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + count]), raw[8 + count :]


def joined(head: str, data: bytes) -> bytes:
    """A safetensors file of a header as it is written."""
    raw = head.encode("utf-8", "surrogatepass")
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + data


def safetensors(random: Random, raw: bytes, key: str) -> bytes:
    """A file whose document under `key` of the metadata is changed, or its header, or any bytes."""
    head, data = split(raw)
    what = random.random()
    if what < 0.2:
        return flipped(random, raw)
    if what < 0.75 and key in head.get("__metadata__", {}):
        found = document(random, json.loads(head["__metadata__"][key]))
        try:
            said = json.dumps(json.loads(dumped(found)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        except (ValueError, RecursionError):
            said = dumped(found)
        head["__metadata__"][key] = said
        return joined(dumped(head), data)
    return joined(dumped(document(random, head)), data)


#: What may stand behind a colon in YAML.
YAML = (
    "!!python/object/apply:os.system ['true']", "&a [*a]", "*nope", "!!binary aGVsbG8=", "!!set {a,b}", "2020-01-01",
    "2020-99-99", "0x1f", "1_000", "1:2:3", ".inf", ".nan", "-.inf", "~", "yes", '"\\u0000"', "'../..'",
    "{a: 1, a: 2}", "{<<: *a}", "? [a]\n: b", "[[[[[[[[[[[]]]]]]]]]]]", "!!timestamp 99999-01-01", "!!float abc",
    "!!int xyz", "!!omap [a: 1]", "|\n  x", "9" * 5000, "1e400", "\xff", "!foo bar", "{[1]: 2}", "{{a: b}: c}", "0o99",
    "0b2", "0x_", "!!int ''", "!!bool maybe", "!!seq {a: b}", "!!map [a]", '"\\UFFFFFFFF"', "1" * 400, "[" * 200,
    "*" * 40, "x", "3", "-1", "0.5", "true", "[a, b]", "{a: b}", "[]", "''", "enforce", "ties", "sha256:" + "0" * 64,
)  # fmt: skip
LINES = (
    "<<: {a: b}", "? x", "x: y", "%YAML 9.9", "%YAML " + "9" * 5000 + ".1", "---", "...", "\t", "[a]: b",
    "{a: b}: c", "!!binary x: y", "&x key: 1",
)  # fmt: skip


def yaml(random: Random, valid: str) -> bytes:
    """YAML with values or lines changed, or bytes."""
    if random.random() < 0.25:
        return flipped(random, valid.encode())
    lines = valid.split("\n")
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(lines))
        line = lines[at]
        if ":" in line and random.random() < 0.75:
            lines[at] = line.split(":", 1)[0] + ": " + random.choice(YAML)
        elif random.random() < 0.3:
            lines.insert(at, random.choice((*LINES, f"- {random.choice(YAML)}")))
        else:
            lines[at] = random.choice(("", line + line, f" {line}", line[1:], line.replace(":", "")))
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def tensors(
    random: Random, valid: Mapping[str, Tensor], ends: Sequence[str], modules: Sequence[str], last: bool = False
) -> dict[str, Tensor]:
    """The tensors of a file with one or two under another name, of another shape, dtype or value, or gone.

    A name is a module and an end, which begins behind the first `.`, or behind the `last`.
    """
    import torch

    found = dict(valid)
    for _ in range(random.choice((1, 1, 2, 3))):
        key = random.choice(list(found))
        module, _, end = key.rpartition(".") if last else key.partition(".")
        value, what = found.pop(key), random.random()
        if what < 0.3:
            key = f"{module}.{random.choice(ends)}"
        elif what < 0.4:
            key = f"{random.choice(modules)}.{end}"
        elif what < 0.6:
            value = torch.ones([random.choice((0, 1, 2, 3, 4, 9)) for _ in range(random.randrange(7))])
        elif what < 0.75:
            value = value.to(random.choice((torch.int64, torch.bool, torch.float64, torch.bfloat16, torch.uint8)))
        elif what < 0.9:
            value = torch.full_like(value.float(), random.choice((0.0, -1.0, float("nan"), float("inf"), 1e38)))
        found |= {key: value} if what < 0.9 or not found else {}
    return found
