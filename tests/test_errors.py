"""The tree drawn in the docstring is the tree of the classes, and each has the exit code of the design."""

from __future__ import annotations

import inspect
import re

import pytest

from adaptr import errors

CODES = {
    "UsageError": 2,
    "InputError": 3,
    "WrongBase": 4,
    "NotPossible": 5,
    "RegistryError": 6,
    "IntegrityError": 7,
    "MachineError": 8,
}


def classes() -> dict[str, type[errors.AdaptrError]]:
    found = (c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, errors.AdaptrError))
    return {c.__name__: c for c in found}


def drawn() -> dict[str, str]:
    """Class name to the name of the class above it, as drawn."""
    above, parents = {0: "AdaptrError"}, {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([│ ]*[├└]── )([A-Z]\w+(?:, [A-Z]\w+)*)", line)
        if found:
            depth = len(found[1]) // 4
            for name in found[2].split(", "):
                parents[name] = above[depth - 1]
                above[depth] = name
    return parents


def test_the_drawn_tree_is_the_tree():
    real = {name: c.__bases__[0].__name__ for name, c in classes().items() if name != "AdaptrError"}
    assert drawn() == real


@pytest.mark.parametrize("name", sorted(set(classes()) - {"AdaptrError"}))
def test_each_class_has_the_exit_code_of_its_branch_and_says_what_it_is(name):
    cls = classes()[name]
    branch = next(c.__name__ for c in cls.__mro__ if c.__bases__ == (errors.AdaptrError,))
    assert cls.exit_code == CODES[branch]
    assert "exit_code" not in vars(cls) or cls.__name__ in CODES
    assert cls.__doc__ or name in CODES


def test_the_codes_are_drawn():
    drawn_codes = dict(re.findall(r"(\w+) \.\.\.+ (\d)", errors.__doc__ or ""))
    assert drawn_codes == {name: str(code) for name, code in CODES.items()}


@pytest.mark.parametrize(
    ("value", "text"),
    [("plain.path", "plain.path"), ("\x1b[31m\ud800\n", r"\x1b[31m\ud800\n"), ("k" * 100, "k" * 80 + "..."), (7, "7")],
)
def test_what_a_file_says_is_shown_harmless(value, text):
    assert errors.shown(value) == text


def test_no_message_holds_what_a_terminal_obeys():
    error = errors.BadConfig("two\nlines of `\x1b[31m\ud800`")
    assert str(error) == "two\nlines of `\\x1b[31m\\ud800`"


def test_deep_and_long_values_are_cut():
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert len(errors.shown(deep)) < 100
    assert len(errors.shown([list(range(1000))] * 1000)) < 1000
