"""Bytes that others wrote: what is read of files, JSON and YAML, and what is refused by name."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
import yaml

from adaptr import untrusted
from adaptr.errors import ForeignError, InputError
from adaptr.untrusted.plain_yaml import Plain


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        kinds = {
            "pipe": tmp_path / "pipe",
            "device": tmp_path / "link",
            "folder": tmp_path,
            "socket": tmp_path / "socket",
        }
        for what, path in kinds.items():
            with pytest.raises(InputError, match=f"is a {what}, wanted a file"):
                untrusted.opened(path)


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert untrusted.whole(tmp_path / "a", 5) == b"12345"
    with pytest.raises(InputError, match="longer than 4 bytes"):
        untrusted.whole(tmp_path / "a", 4)


def test_a_sparse_file_costs_nothing(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="longer than"):
        untrusted.whole(tmp_path / "a")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"[1]", "not a JSON object"),
        (b'{"a":1,"a":2}', "`a` appears twice"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"a":1e999}', "larger than any number"),
        (b'{"a":1%s}' % (b"0" * 400), "401 digits"),
        (b'{"a":%s1%s}' % (b"[" * 100, b"]" * 100), "deeper than 64"),
        (b'{"a":%s}' % (b"[" * 100_000), "nests too deep"),
        (b'{"a":["\\ud800"]}', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'{"a":"\xff"}', "UTF-8"),
    ],
)
def test_json_that_later_steps_would_stumble_over(raw: bytes, said: str) -> None:
    with pytest.raises(ForeignError, match=f"^it.*{said}"):
        untrusted.json_object(raw, "it", ForeignError)


def test_plain_json_is_read() -> None:
    raw = '\ufeff{"a":[1,-2.5,"\\ud83d\\ude00",null,true,{"b":{}}]}'.encode()
    assert untrusted.json_object(raw, "it") == {"a": [1, -2.5, "😀", None, True, {"b": {}}]}


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.getcwd []", "!!timestamp 99999-01-01", "!!bool maybe", "!!int ''", "!!map [a]",
        "&a [*a]", "*a", "{a: 1, a: 2}", "{[1]: 2}", "? {a: b}\n: c", "0x_", "9" * 5000, ".inf", ".nan", "[" * 5000,
        '"\\UFFFFFFFF"', "%YAML " + "9" * 5000 + ".1\n---\na", "a: b: c", "a\n---\nb",
    ],
)  # fmt: skip
def test_yaml_that_json_could_not_say(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        Plain(text).get_single_data()


def test_aliases_never_multiply() -> None:
    laughs = "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    started = time.process_time()
    with pytest.raises(yaml.YAMLError, match="aliases"):
        Plain(f"a0: &a0 x\n{laughs}").get_single_data()
    assert time.process_time() - started < 1


def test_plain_yaml_is_read() -> None:
    text = "a: [1, 2.5, yes, ~, 'x', 2020-01-01]\n1: {b: -3}\n<<: c\n"
    assert Plain(text).get_single_data() == {"a": [1, 2.5, True, None, "x", "2020-01-01"], 1: {"b": -3}, "<<": "c"}
