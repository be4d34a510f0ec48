"""The tree drawn in the docstring is the tree of the classes; each has its exit code, and says its parts."""

from __future__ import annotations

import inspect
import itertools
import pickle
import re
from pathlib import Path

import pytest

from adaptr import errors
from adaptr.errors import phrases

CODES = {
    "UsageError": 2,
    "InputError": 3,
    "WrongBase": 4,
    "NotPossible": 5,
    "RegistryError": 6,
    "IntegrityError": 7,
    "MachineError": 8,
    "Interrupted": 130,
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
    drawn_codes = dict(re.findall(r"(\w+) \.\.\.+ (\d+)", errors.__doc__ or ""))
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


# ---------------------------------------------------------------- what each has to say, with and without each part

PARTS = {"got": "7", "want": "at most 3", "hint": "ask for less"}
SOME = [dict(some) for n in range(4) for some in itertools.combinations(PARTS.items(), n)]


def sentence(what: str, got: str = "", want: str = "", hint: str = "") -> str:
    return what + (got and f" is {got}") + (want and f", wanted {want}") + (hint and f"; {hint}")


def made(kind: type[errors.AdaptrError], some: dict[str, str]) -> errors.AdaptrError:
    """An error of any class; of the class that words a method's refusal by itself, its root's."""
    if kind is not errors.NotMergeable:
        return kind("`r`", **some)
    error = kind("lora", "why", "what")
    errors.AdaptrError.__init__(error, "`r`", **some)
    return error


@pytest.mark.parametrize("some", SOME, ids=lambda some: "-".join(some) or "what")
@pytest.mark.parametrize("kind", classes().values(), ids=lambda c: c.__name__)
def test_every_error_says_its_parts_and_no_others(kind, some):
    error = made(kind, some)
    without = {name: text for name, text in some.items() if name != "hint"}
    said = sentence("`r`", **some).replace("; ", kind.joint)
    assert (str(error), error.fact) == (said, sentence("`r`", **without))
    assert error.parts == ({"what": "`r`", **some} if some else {})


@pytest.mark.parametrize("kind", classes().values(), ids=lambda c: c.__name__)
def test_every_error_goes_through_a_pickle(kind):
    error = made(kind, PARTS)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.parts) == (kind, str(error), error.parts)


def test_what_is_between_what_and_got_can_be_another_verb():
    error = errors.ShapeError("`q:A`", verb="has", got="shape (2, 3)", want="(3, 3)")
    assert str(error) == "`q:A` has shape (2, 3), wanted (3, 3)"
    assert error.parts == {"what": "`q:A`", "got": "shape (2, 3)", "want": "(3, 3)"}


def test_a_way_on_that_is_a_sentence_stays_one():
    assert str(errors.TiedWeights("`q` is tied", hint="Say `--tied both`")) == '`q` is tied. Say `tied="both"`'


def test_an_error_is_said_of_a_place_with_all_its_parts():
    error = errors.TransferError("the source", got="gone", hint="ask again", after=3.0)
    found = error.at("a.bin", "q", hint="not this")
    assert (str(found), found.after) == ("`a.bin`: `q`: the source is gone; ask again", 3.0)
    assert str(error) == "the source is gone; ask again"


def test_a_place_brings_a_way_on_where_there_is_none():
    assert str(errors.KeyDuplicate("`q` is twice").at("f", hint="get it again")) == "`f`: `q` is twice; get it again"


# ---------------------------------------------------------------- what many places say


def test_an_unknown_name_is_answered_with_those_it_may_be():
    near = phrases.unknown(errors.UsageError, "there is no format", "pefd", ["adaptr", "peft"])
    far = phrases.unknown(errors.UsageError, "there is no format", "\x1b", [], "there are")
    assert str(near) == "there is no format `pefd`; did you mean `peft`? known: adaptr, peft"
    assert str(far) == r"there is no format `\x1b`; there are: none"


def test_long_lists_are_cut():
    assert phrases.listed(map(str, range(15))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (phrases.misshapen("`q`", [2, 3], (3, 3), by="by the adapter"), "has shape (2, 3), wanted (3, 3) by the adap"),
        (phrases.nothing_at("a/b", hint="make it"), "there is nothing at `a/b`; make it"),
        (phrases.no_targets("style", "merging"), "`style` has no targets: merging it would change nothing; "),
        (phrases.no_strength("lm_head", "style", 0.5), "by `style`, which has no strength 0.5; give that adapter"),
        (phrases.extra("signing", "cryptography", "sign"), "`cryptography`, which is not installed; `pip install 'ada"),
    ],
    ids=lambda found: getattr(found, "args", [""])[0][:20] if isinstance(found, Exception) else "",
)
def test_what_many_places_say_says_the_way_on(error, says):
    assert says in str(error)


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert phrases.near(str(tmp_path / "link")) == "it is a link to `nowhere`, which is not there"
    (tmp_path / "nowhere").touch()
    assert phrases.near(str(tmp_path / "lin")) == f"did you mean `{tmp_path / 'link'}`?"
