"""Whether a class can keep the contract: asked once, when a method is loaded. What can't is named with its line."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptr.adapter import kinds
from adaptr.contract import REASONS, Contract, settings
from adaptr.contract.capabilities import FORMS, USES
from adaptr.contract.params import INITS, Param, field_of
from adaptr.errors import UsageError
from adaptr.hookspecs import HOOKS

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
#: Axes that a target binds.
AXES = frozenset({"out", "in", "d", "h", "*k", "*e", "*i", "*1"})
VARIADIC = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
FLAGS = ("rowwise", "colwise", "identity", "portable", "averages", "trains_parts", "context")

#: What is wrong, and the member that it is wrong with, "" for the class.
Fault = tuple[str, str]


def validated(found: object, name: str) -> Contract[Any]:
    """The method of the class `found`. Raises `UsageError` for what can't keep the contract."""
    if not (isinstance(found, type) and issubclass(found, Contract) and hasattr(found, "merge")):
        raise UsageError(
            f"method `{name}`: the plugin", verb="gives", got=repr(found), want="a subclass of adaptr.Method"
        )
    called = getattr(found, "name", "")
    if called != name:
        raise UsageError(f"method `{name}`: the plugin calls itself `{called}`", want="one name at both places")
    for fault, member in _faults(found):
        raise UsageError(f"method `{name}` ({place(found, member)}): {fault}", hint="mend the plugin, or uninstall it")
    try:
        return found()
    except Exception as error:
        raise UsageError(
            f"method `{name}` ({place(found, '__init__')}): it can't be made: {error!r}",
            hint="mend the plugin, or uninstall it",
        ) from error


def place(cls: type, member: str = "") -> str:
    """`file:line` of a member as the class has it, or of the class."""
    given = inspect.unwrap(getattr(cls, member, cls)) if member else cls
    code = getattr(given, "__code__", None)
    if code is not None and not code.co_filename.startswith(str(Path(__file__).parent.parent)):
        return f"{code.co_filename}:{code.co_firstlineno}"
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):  # made in an interactive session
        return f"{cls.__module__}.{cls.__qualname__}"


def _faults(cls: type[Contract[Any]]) -> Iterator[Fault]:
    """What keeps a class from being a method, the first of which is said."""
    for check in (_words, _config, _table, _places, _signatures, _formulas, _claims):
        yield from check(cls)


def _words(cls: type[Contract[Any]]) -> Iterator[Fault]:
    if not NAME.fullmatch(cls.name):
        yield f"`{cls.name}` is no name: lower case, digits, `.`, `_` and `-`, wanted up to 64 of them", ""
    if type(cls.version) is not int or cls.version < 1:
        yield f"`version` is {cls.version!r}, wanted a number from 1", ""
    for flag in FLAGS:
        if not isinstance(getattr(cls, flag), bool):
            yield f"`{flag}` is {getattr(cls, flag)!r}, wanted True or False", ""
    if cls.unmergeable and cls.unmergeable not in REASONS:
        yield f"`unmergeable` is `{cls.unmergeable}`, wanted one of {', '.join(REASONS)}, or nothing", ""


def _config(cls: type[Contract[Any]]) -> Iterator[Fault]:
    config: object = cls.Config
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        yield f"`Config` is {config!r}, wanted a frozen dataclass", ""
        return
    if not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        yield "`Config` can be changed, wanted `@dataclass(frozen=True)`", ""
    for field in dataclasses.fields(config):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            yield f"`Config` has no default for `{field.name}`: `{cls.name}` must be creatable without a word", ""
    given = [one for base in cls.__dict__.get("__orig_bases__", ()) for one in typing.get_args(base)]
    if any(isinstance(one, type) and one is not config for one in given):
        yield f"it has two configurations, {given[0].__name__} behind its family and `Config` inside: leave one out", ""
    try:
        settings.hints(config)
    except Exception as error:
        yield f"the types of `Config` can't be read ({error}): import them at the top of the file", ""


def _table(cls: type[Contract[Any]]) -> Iterator[Fault]:
    if not isinstance(cls.params, Mapping):
        yield f"`params` is {cls.params!r}, wanted a table of name to Param", ""
        return
    fields = {field.name for field in dataclasses.fields(cls.Config)}
    free = cls.supplies("axes") or cls.supplies("parts")
    for name, param in cls.params.items():
        if not isinstance(param, Param):
            yield f"`params` has {param!r} for `{name}`, wanted a Param", ""
            continue
        if not (isinstance(name, str) and name.isidentifier()):
            yield f"`params`: `{name}` is no name for a tensor: letters, digits and `_`", ""
        asked = {field_of(test) for test in (*param.when.split(), *param.unless.split())}
        asked |= set(re.findall(r"{(\w+)}", param.axes))
        for field in sorted(asked - fields):
            yield f"`params`: `{name}` asks for the field `{field}`, which `Config` has not", ""
        tokens = {t for t in param.axes.split() if "{" not in t and not t.isdigit()}
        for axis in sorted(tokens - AXES - fields) if not free else ():
            yield f"`params`: nobody says how long the axis `{axis}` of `{name}` is: neither `Config` nor `axes`", ""
        if param.init.partition(":")[0] not in INITS and not cls.supplies("init_rule"):
            yield f"`params`: `{name}` starts as `{param.init}`, wanted one of {', '.join(INITS)}", ""
        if param.init == "custom" and not param.when and not _own(cls, "init_custom", "start", "create", "init"):
            yield f"`params`: `{name}` starts as `custom`, and there is no `init_custom`", ""


def _places(cls: type[Contract[Any]]) -> Iterator[Fault]:
    for what, known in (("kinds", kinds.ALL), ("targets", None)):
        given: object = getattr(cls, what)
        if isinstance(given, str) or not isinstance(given, frozenset | set | tuple | list):
            yield f"`{what}` is {given!r}, wanted several texts", ""
        elif not all(isinstance(one, str) for one in given) or (known is not None and not known.issuperset(given)):
            yield f"`{what}` is {sorted(map(str, given))}, wanted some of {', '.join(sorted(known or ()))}", ""
    if cls.params and not cls.kinds:
        yield "it has tensors and no `kinds` of place to have them at", ""


def _signatures(cls: type[Contract[Any]]) -> Iterator[Fault]:
    """Members are called as the family, or the contract, has them."""
    for name in sorted({n for one in _ours(cls) for n in vars(one) if not n.startswith("__") and n not in HOOKS}):
        above = next((vars(base)[name] for base in _theirs(cls) if name in vars(base)), None)
        if not inspect.isfunction(above):
            continue
        mine = inspect.unwrap(inspect.getattr_static(cls, name))
        if not inspect.isfunction(mine):
            yield f"`{name}` is {mine!r}, wanted a function like `{name}{_said(above)}`", ""
        elif not _takes(mine, above):
            yield f"`{name}` takes {_said(mine)}, wanted {_said(above)}", name


def _takes(mine: Callable[..., Any], above: Callable[..., Any]) -> bool:
    """Whether `mine` can be called as `above` is, by place and, where there are defaults, by name."""
    if _written(mine) == _written(above):  # most are, and this is a tenth of the work
        return True
    wanted = inspect.signature(above).parameters.values()
    plain = [p for p in wanted if p.kind is p.POSITIONAL_OR_KEYWORD]
    try:
        inspect.signature(mine).bind(*(None for _ in plain))
        inspect.signature(mine).bind(*(None for p in plain if p.default is p.empty))
    except TypeError:
        return False
    return True


def _written(function: Callable[..., Any]) -> tuple[object, ...]:
    """The names of all arguments, their sorts, and how many have defaults."""
    code = function.__code__
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & VARIADIC
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return counts, names, len(function.__defaults__ or ()), len(function.__kwdefaults__ or ())


def _said(function: Callable[..., Any]) -> str:
    return "(" + ", ".join(name for name in inspect.signature(function).parameters if name != "self") + ")"


def _formulas(cls: type[Contract[Any]]) -> Iterator[Fault]:
    """A family needs one or two formulas; a method without tensors that answers a verb itself needs none."""
    answers = any(hook in vars(one) for one in _ours(cls) for hook in HOOKS)
    if answers and not cls.params:
        return
    for choice in cls.formulas:
        if not _own(cls, *choice.split("|")):
            wanted = " or ".join(f"`{name}{_said(getattr(cls, name))}`" for name in choice.split("|"))
            yield f"a method of the family `{cls.family}` has {wanted}, and this has not", ""


def _claims(cls: type[Contract[Any]]) -> Iterator[Fault]:
    """What a class says that it can, and lacks the member for."""
    if not isinstance(cls.forms, frozenset | set) or not FORMS.issuperset(cls.forms):
        yield f"`forms` is {cls.forms!r}, wanted a set of {', '.join(sorted(FORMS))}", ""
    if not isinstance(cls.default_for, frozenset | set) or not USES.issuperset(cls.default_for):
        yield f"`default_for` is {cls.default_for!r}, wanted a set of {', '.join(sorted(USES))}", ""
    elif not cls.forms >= FORMS & cls.default_for:
        yield f"`default_for` is {sorted(cls.default_for)}, of which `forms` lacks what it is to be written in", ""
    if bool(cls.forms) != cls.supplies("written"):
        yield "`forms` and `written` belong together: what an operator may be, and the tensors that are made of it", ""
    if cls.forms and any(param.shared for param in cls.params.values()):
        yield "`forms`: a delta is written target by target, and some of its tensors are shared by all", ""
    if cls.portable and not cls.supplies("inverse"):
        yield "`portable` says that its inverse has the same bits everywhere, and there is no `inverse`", ""
    if not (cls.tokens is None or type(cls.tokens) is int):
        yield f"`tokens` is {cls.tokens!r}, wanted the axis of the tokens, or None", ""
    yield from cls.claims()


def _own(cls: type, *names: str) -> bool:
    return any(name in vars(one) for one in _ours(cls) for name in names)


def _ours(cls: type) -> list[type]:
    """The classes of a method that are its author's, not the package's."""
    return [one for one in cls.__mro__ if not _is_theirs(one)]


def _theirs(cls: type) -> list[type]:
    return [one for one in cls.__mro__ if _is_theirs(one) and one is not object]


def _is_theirs(cls: type) -> bool:
    return cls is object or cls.__module__.partition(".")[0] in {"adaptr", "typing"}
