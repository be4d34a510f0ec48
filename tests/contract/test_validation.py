"""Methods that can't keep the contract: each is refused when it is loaded, with its name, its line and its fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adaptr import Composite, Delta, Gate, Insert, LowRank, Method, Param, Prefix, SoftPrompt, Transform, plugins
from adaptr.contract.capabilities import LOW_RANK
from adaptr.contract.validation import validated
from adaptr.errors import UsageError


@dataclass(frozen=True)
class Config:
    r: int = 2


@dataclass
class Thawed:
    r: int = 2


@dataclass(frozen=True)
class Asking:
    r: int


@dataclass(frozen=True)
class Untyped:
    r: "Missing" = 2  # type: ignore[name-defined]  # noqa: F821, UP037


class Good(Delta[Config]):
    name = "good"
    params = {"A": Param("r in", init="kaiming"), "B": Param("out r")}

    def delta(self, p: Any, cfg: Config) -> LowRank:
        return LowRank(p["B"], p["A"])


def made(base: Any = Good, **members: Any) -> Any:
    """A class like `Good`, or of another family, with other members."""
    return type("Bad", (base,), {"name": "bad", "__module__": __name__, **members})


TABLE = {"A": Param("r in"), "B": Param("out r")}
FAMILIES = [
    (Delta, r"family `delta` has `delta\(p, cfg\)` or `view"),
    (Transform, r"family `transform` has `weight\(W, p, cfg\)` or `view"),
    (Insert, r"family `insert` has `branch\(h, x, p, cfg\)` or `forward"),
    (SoftPrompt, r"family `prompt` has `prompt\(p, cfg\)`"),
    (Prefix, r"family `prompt` has `keys_values\(p, cfg\)`"),
    (Gate, r"family `gate` has `mix\(x, p, cfg\)`"),
    (Composite, r"family `composite` has `parts\(cfg\)`"),
    (Method, r"family `` has `view\(base, p, cfg, weight\)`"),
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"Config": Thawed}, "`Config` can be changed, wanted `@dataclass.frozen=True.`"),
    ({"Config": 5}, "`Config` is 5, wanted a frozen dataclass"),
    ({"Config": dict}, "`Config` is <class 'dict'>, wanted a frozen dataclass"),
    ({"Config": Asking}, "`Config` has no default for `r`"),
    ({"Config": Untyped}, "the types of `Config` can't be read"),
    ({"params": ["A"]}, "`params` is .'A'., wanted a table"),
    ({"params": {"A": "r in"}}, "`params` has 'r in' for `A`, wanted a Param"),
    ({"params": {"a:b": Param("r")}}, "`a:b` is no name for a tensor"),
    ({"params": {"a.b": Param("r")}}, "`a.b` is no name for a tensor"),
    ({"params": {"=": Param("r")}}, "`=` is no name for a tensor"),
    ({"params": {"A": Param("q in")}}, "nobody says how long the axis `q` of `A` is"),
    ({"params": {"A": Param("{side}")}}, "`A` asks for the field `side`, which `Config` has not"),
    ({"params": {"A": Param("r", when="bias")}}, "`A` asks for the field `bias`, which `Config` has not"),
    ({"params": {"A": Param("r", unless="depth>2")}}, "`A` asks for the field `depth`"),
    ({"params": {"A": Param("r", init="kaimig")}}, "`A` starts as `kaimig`, wanted one of zeros"),
    ({"params": {"A": Param("r", init="custom")}}, "`A` starts as `custom`, and there is no `init_custom`"),
    ({"kinds": frozenset({"lineal"})}, "`kinds` is .'lineal'., wanted some of attention"),
    ({"kinds": "linear"}, "`kinds` is 'linear', wanted several texts"),
    ({"kinds": frozenset()}, "it has tensors and no `kinds`"),
    ({"targets": "q_proj"}, "`targets` is 'q_proj', wanted several texts"),
    ({"targets": (1,)}, "`targets` is .'1'."),
    ({"unmergeable": "because"}, "`unmergeable` is `because`, wanted one of non-linear"),
    ({"version": 0}, "`version` is 0, wanted a number from 1"),
    ({"version": "1"}, "`version` is '1'"),
    ({"identity": "no"}, "`identity` is 'no', wanted True or False"),
    ({"forms": frozenset({LOW_RANK})}, "`forms` and `written` belong together"),
    ({"written": lambda self, op, bias: ({}, {})}, "`forms` and `written` belong together"),
    ({"forms": "low-rank"}, "`forms` is 'low-rank', wanted a set"),
    (
        {"default_for": frozenset({"everything"})},
        "`default_for` is frozenset.*, wanted a set of bias, cache, dense",
    ),
    ({"default_for": frozenset({LOW_RANK})}, "of which `forms` lacks what it is to be written in"),
    ({"tokens": "0"}, "`tokens` is '0', wanted the axis"),
    ({"delta": lambda self, p: None}, r"`delta` takes \(p\), wanted \(p, cfg\)"),
    ({"delta": lambda self, p, cfg, more: None}, r"`delta` takes \(p, cfg, more\), wanted \(p, cfg\)"),
    ({"delta": 5}, r"`delta` is 5, wanted a function like `delta\(p, cfg\)`"),
    ({"shift": lambda self, p, cfg: None}, r"`shift` takes \(p, cfg\), wanted \(p, cfg, weight\)"),
    ({"factors": lambda self: None}, r"`factors` takes \(\), wanted \(cfg\)"),
    ({"after_step": lambda self: None}, r"`after_step` takes \(\), wanted \(session\)"),
    ({"at_target": lambda self, target: {}}, r"`at_target` takes \(target\), wanted \(model, target, values\)"),
    ({"__init__": lambda self, more: None}, "it can't be made: TypeError"),
]


@pytest.mark.parametrize(("members", "words"), WRONG, ids=[words[:40] for _, words in WRONG])
def test_what_is_wrong_is_said(members: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"^method `bad` .*: .*{words}"):
        validated(made(**members), "bad")


@pytest.mark.parametrize(("family", "words"), FAMILIES, ids=[words[:30] for _, words in FAMILIES])
def test_a_missing_formula_is_named(family: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        validated(made(family, params=TABLE, kinds=frozenset({"linear"}), Config=Config), "bad")


def test_a_transform_that_is_portable_needs_its_inverse() -> None:
    wrong = made(Transform, params={"l": Param("out")}, portable=True, weight=lambda self, W, p, cfg: W)
    wrong.kinds = frozenset({"linear"})
    with pytest.raises(UsageError, match=r"`portable` says that its inverse .* and there is no `inverse`"):
        validated(wrong, "bad")


def test_a_gate_that_wants_the_base_first_needs_its_scalings() -> None:
    wrong = made(Gate, passes=True, mix=lambda self, x, p, cfg: x)
    with pytest.raises(UsageError, match=r"`passes` says .* and there is no `scalings`"):
        validated(wrong, "bad")


def test_two_configurations_are_one_too_many() -> None:
    class Bad(Delta[Config]):
        name = "bad"
        params = TABLE

        @dataclass(frozen=True)
        class Config:
            r: int = 3

        def delta(self, p: Any, cfg: Any) -> Any: ...

    with pytest.raises(UsageError, match="two configurations, Config behind its family and `Config` inside"):
        validated(Bad, "bad")


# ---------------------------------------------------------------- where


def line_of(text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.strip() == text)


class Short(Good):
    name = "short"

    def factors(self) -> Any:
        return None


class Typo(Good):
    name = "typo"

    def quantize(self, adaptr: Any, scheme: str) -> Any:
        return None


def test_a_wrong_member_is_named_with_its_line() -> None:
    with pytest.raises(UsageError, match=re.escape(f"`short` ({__file__}:{line_of('def factors(self) -> Any:')}):")):
        validated(Short, "short")


def test_a_wrong_class_is_named_with_its_line() -> None:
    class Bad(Good):
        name = "bad"
        version = 0

    with pytest.raises(UsageError, match=re.escape(f"`bad` ({__file__}:{line_of('class Bad(Good):')}):")):
        validated(Bad, "bad")


@pytest.fixture
def typo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Point:
        value = "somewhere:Typo"

        def load(self) -> Any:
            return Typo

    monkeypatch.setattr("adaptr.discovery._points", lambda group: {"typo": Point()})
    yield
    plugins.method.cache_clear()
    plugins.manager.cache_clear()


def test_a_wrong_hook_is_named_with_its_line(typo: None) -> None:
    place = f"{__file__}:{line_of('def quantize(self, adaptr: Any, scheme: str) -> Any:')}"
    with pytest.raises(UsageError, match=f"method `typo`: a hook has other arguments .*{re.escape(place)}"):
        plugins.hooks("typo")


# ---------------------------------------------------------------- what is right


def test_what_keeps_the_contract_is_taken() -> None:
    assert validated(Good, "good").can.delta


@pytest.mark.parametrize("name", plugins.builtin_files())
def test_all_built_ins_keep_it(name: str) -> None:
    assert validated(type(plugins.method(name)), name).name == name


def test_more_arguments_with_defaults_are_welcome() -> None:
    class More(Good):
        name = "more"

        def delta(self, p: Any, cfg: Any, again: bool = False) -> LowRank:
            return super().delta(p, cfg)

    assert validated(More, "more").can.delta
