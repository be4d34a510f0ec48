"""What the house promises in numbers: who knows of kinds, families and methods, what types and errors don't say, no
circles, no file that is too long.
"""

from __future__ import annotations

from pathlib import Path

import house
from circles import circles

#: `Any` in signatures; may only fall.
ANY = 190
#: Errors of one sentence, without what was wanted or the way on; may only fall.
SENTENCES = 33


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_nobody_names_a_kind() -> None:
    assert house.kinds_named() == []


def test_nobody_names_a_family() -> None:
    assert house.families_named() == []


def test_nobody_chooses_a_method_by_its_name() -> None:
    assert house.methods_named() == []


def test_any_is_said_no_more_often_than_before() -> None:
    assert sum(house.anys().values()) <= ANY


def test_errors_say_the_way_on_no_more_seldom_than_before() -> None:
    assert sum(plain for _, plain in house.raised().values()) <= SENTENCES


def test_no_part_of_an_error_is_put_into_its_sentence() -> None:
    assert house.glued() == []


def test_no_modules_import_one_another() -> None:
    assert circles() == []


def test_no_file_is_too_long() -> None:
    assert house.long_files() == []


def test_no_file_of_tests_is_too_long() -> None:
    assert house.long_tests() == []


def test_every_method_says_when_to_choose_it() -> None:
    assert house.unchosen() == [], "say so in a paragraph `Choose it ...`: what for, at what cost, where it fails"


def test_a_method_that_says_nothing_of_when_is_found(tmp_path: Path) -> None:
    write(tmp_path, "plugins/adaptr_plugins/delta/a.py", '"""A: x.\n\nChoose it never.\n"""\n')
    write(tmp_path, "plugins/adaptr_plugins/delta/b.py", '"""Choose it: x.\n\nNot A.\n"""\n')
    write(tmp_path, "plugins/adaptr_plugins/delta/_c.py", '"""No method."""\n')
    assert house.unchosen(tmp_path) == ["plugins/adaptr_plugins/delta/b.py"]


def test_a_kind_is_found(tmp_path: Path) -> None:
    write(tmp_path, "adaptr/a.py", 'x = target.kind == "linear"\ny = {"norm", "model"}\nTarget("", "model", ())\n')
    write(tmp_path, "adaptr/b.py", 'z = "experts_t"\nstrategy = "linear"\nname = ("a", "model")\n')
    write(tmp_path, "adaptr/host/c.py", 'z = "experts_t"\n')
    assert house.kinds_named(tmp_path) == ["adaptr/a.py:1", "adaptr/a.py:2", "adaptr/a.py:3", "adaptr/b.py:1"]


def test_a_family_is_found(tmp_path: Path) -> None:
    write(
        tmp_path, "adaptr/a.py", 'isinstance(m, Delta | Gate)\nm.family != "gate"\nf = {"insert", "prompt"}\ng = "gate"'
    )
    assert house.families_named(tmp_path) == ["adaptr/a.py:1", "adaptr/a.py:2", "adaptr/a.py:3"]


def test_a_method_is_found(tmp_path: Path) -> None:
    write(tmp_path, "plugins/adaptr_plugins/delta/lora.py", 'name = "lora"\n')
    write(tmp_path, "adaptr/a.py", 'adapter.method == "lora"\nRATES = {"lora": 1}\ndef f(method="lora"): ...\n')
    assert house.methods_named(tmp_path) == ["adaptr/a.py:1", "adaptr/a.py:2"]


def test_anys_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "adaptr/a.py", "def f(a: Any, b: dict[str, Any], *c: Any, d: Any | None = None) -> Any: ...\n")
    assert house.anys(tmp_path) == {"adaptr/a.py": 4}


def test_errors_of_parts_and_of_one_sentence_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "adaptr/a/b.py", 'raise errors.BadConfig("`r`", got=0)\nfound = NotFound("x")\n')
    write(tmp_path, "adaptr/c.py", 'raise click.UsageError("x")\nraise ValueError("x")\nraise UsageError("x")\n')
    assert house.raised(tmp_path) == {"adaptr": (0, 1), "adaptr/a": (1, 1)}


def test_a_part_in_a_sentence_is_found(tmp_path: Path) -> None:
    write(tmp_path, "adaptr/a.py", 'NotFound(f"{x} is none; pull it")\nNotFound("x", hint="a; b")\nNotFound("x")\n')
    write(tmp_path, "adaptr/b.py", 'BadConfig(f"`{x}` is {y}, wanted {z}")\n')
    assert house.glued(tmp_path) == ["adaptr/a.py:1", "adaptr/b.py:1"]


def test_a_circle_is_found_wherever_it_is_imported(tmp_path: Path) -> None:
    write(tmp_path, "adaptr/a.py", "from adaptr import b\n")
    write(tmp_path, "adaptr/b.py", "def f():\n    from adaptr.a import x\n")
    write(tmp_path, "adaptr/c.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from adaptr import d\n")
    write(tmp_path, "adaptr/d.py", "import adaptr.c\n")
    assert circles(tmp_path) == [["adaptr.a", "adaptr.b"]]


def test_a_long_file_is_found(tmp_path: Path) -> None:
    for lines in (300, 301, 401):
        write(tmp_path, f"adaptr/a{lines}.py", "\n" * lines)
        write(tmp_path, f"tests/a{lines}.py", "\n" * lines)
    assert house.long_files(tmp_path) == ["adaptr/a301.py: 301", "adaptr/a401.py: 401"]
    assert house.long_tests(tmp_path) == ["tests/a301.py: 301", "tests/a401.py: 401"]
