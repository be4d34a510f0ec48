"""What is known of each method, read from its file: no torch, no table to keep up to date."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.contract import REASONS, Param
from adaptr.errors import AdaptrError, UsageError, phrases
from adaptr.families.base import Method

if TYPE_CHECKING:
    from adaptr.planning.foundation import Foundation

#: The base that shares are of: Llama's first of seven billion (arXiv:2302.13971).
SEVEN = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
    "tie_word_embeddings": False,
}  # fmt: skip
#: Method to the share of it that it trains.
CARRIED = Path(__file__).with_name("shares.json")
#: How the paragraph of a method's docstring begins that says what it is good for, what it costs and where it fails.
CHOOSE = "Choose it"
#: How a tensor starts that does not train.
FIXED = "fixed"


@dataclass(frozen=True)
class Card:
    """A method as its file describes it.

    `formula`, `source`, `arxiv`: from the first paragraph of the docstring; `choose`: the one that begins so, when to
    take it and when not; `notes`: the rest. `params`: name to axes and start. `config`: field to type and default.
    `parts`: of a composite, part name to method. `refusal`: why it can't be merged, "" if it can; `conditional`: it can
    where each of the methods that it is given can. `inverse`: whether what is merged can be taken out again by
    computing; `delta`: what it adds is known without the base; `row`: whether it can be one row of a batch of many
    adapters; `share`: what it trains of a Llama of 7B where nothing is said, None where only more says how much;
    `peft`: PEFT's type of it.
    """

    name: str
    family: str
    version: int
    title: str
    formula: str
    source: str
    arxiv: str
    notes: str
    choose: str
    params: Mapping[str, Mapping[str, str]]
    config: Mapping[str, Mapping[str, Any]]
    targets: tuple[str, ...]
    kinds: tuple[str, ...]
    parts: Mapping[str, str]
    identity: bool
    refusal: str
    conditional: bool
    possible: str
    inverse: bool
    delta: bool
    row: bool
    share: float | None
    peft: str

    @property
    def mergeable(self) -> bool:
        return not self.refusal

    @property
    def trained(self) -> list[str]:
        """The tensors that training changes; others are drawn, counted or copied once."""
        return [name for name, param in self.params.items() if param["init"] != FIXED]

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "mergeable": self.mergeable}


def card(name: str) -> Card:
    """The card of one method. Raises `UnknownMethod`, with near names."""
    method = plugins.method(name)
    first, *parts = _documentation(method).split("\n\n")
    rest = [" ".join(part.split()) for part in parts]
    title, formula, source, arxiv = first_line(first)
    made_of, merges = _parts(method), _merges(method)
    return Card(
        name=name,
        family=method.family,
        version=method.version,
        title=title,
        formula=formula,
        source=source,
        arxiv=arxiv,
        notes=" ".join(part for part in rest if not part.startswith(CHOOSE)),
        choose=" ".join(part for part in rest if part.startswith(CHOOSE)),
        params={key: _param(p) for key, p in method.params.items()},
        config=_fields(method),
        targets=method.targets,
        kinds=tuple(sorted(method.kinds)),
        parts=made_of,
        identity=method.can.identity,
        refusal=_refusal(method, made_of),
        conditional=merges and method.can.parts and not made_of,
        possible=method.possible,
        inverse=merges and method.can.inverse,
        delta=method.can.delta,
        row=method.can.row,
        share=_share(name),
        peft=_peft(name),
    )


def _share(name: str) -> float | None:
    """What a method trains of a Llama of 7B when nothing is said. That of a built-in is carried, for counting all of
    them takes longer than everything else here; `docs/generate.py` writes it down, and a test counts again.
    """
    carried = _carried() if name in plugins.builtin_files() else {}
    return carried[name] if name in carried else counted(name)


@functools.cache
def _carried() -> dict[str, float | None]:
    found: dict[str, float | None] = json.loads(CARRIED.read_text(encoding="utf-8"))
    return found


def shares() -> str:
    """The file of the shares that are carried."""
    return json.dumps({name: counted(name) for name in plugins.builtin_files()}, indent=0, sort_keys=True) + "\n"


def counted(name: str) -> float | None:
    """The share of a Llama of 7B that a method trains, with the configuration and the targets that it has when nothing
    is said.
    """
    from adaptr.planning import counts

    base, every = _seven()
    try:
        trained = counts.counted(base, name).trained
    except AdaptrError:  # it is made of adapters that are given, or wants a choice
        return None
    return trained / every if trained else None


@functools.cache
def _seven() -> tuple[Foundation, int]:
    """The base that shares are of, and how many numbers it has."""
    from adaptr.planning.counts import everything
    from adaptr.planning.foundation import foundation

    base = foundation(SEVEN)
    return base, everything(base).trained


def _peft(name: str) -> str:
    from adaptr.foreign.peft import types

    if name not in types.methods() and not types.SORT.points():
        return ""
    try:
        return types.of_method(name).peft
    except AdaptrError:
        return ""


def cards() -> list[Card]:
    """All methods, built-in and installed, by family and name."""
    return sorted((card(name) for name in plugins.names()), key=lambda c: (c.family, c.name))


def chosen(mergeable: bool = False, family: str | None = None) -> list[Card]:
    """Those that can be merged, those of a family. Raises `UsageError` for a family that there is not."""
    every = cards()
    families = sorted({card.family for card in every})
    if family is not None and family not in families:
        raise phrases.unknown(UsageError, "there is no family", family, families)
    return [card for card in every if card.mergeable >= mergeable and family in {None, card.family}]


def _documentation(method: Method) -> str:
    """The docstring of a method's file, or of its class for a plugin that has several in one."""
    module = inspect.getmodule(type(method))
    return inspect.cleandoc((module and module.__doc__) or type(method).__doc__ or "")


def first_line(text: str) -> tuple[str, str, str, str]:
    """(title, formula, source, arXiv id) of `LoRA: W' = W + s B A.  Hu et al. 2021, arXiv:2106.09685.`"""
    said, _, source = text.replace("\n", " ").partition("  ")
    if not source and (cited := re.search(r"(.*?\.) ([A-Z][^.]*?\b(et al\.|and) .*arXiv.*)", said)):
        said, source = cited[1], cited[2]
    title, _, formula = said.partition(": ")
    number = re.search(r"arXiv:(\d{4}\.\d{4,5})", source)
    return title.strip(), formula.strip().rstrip("."), source.strip().rstrip("."), number[1] if number else ""


def _param(param: Param) -> dict[str, str]:
    """A tensor's axes, how it starts (`fixed` if it stays so), and its condition, as in `conv and not full`."""
    when = " and ".join([*param.when.split(), *(f"not {field}" for field in param.unless.split())])
    return {"axes": param.axes, "init": param.init if param.trains else FIXED, "when": when}


def _fields(method: Method) -> dict[str, dict[str, Any]]:
    found = {}
    for field in dataclasses.fields(method.Config):
        made = field.default_factory
        default = made() if made is not dataclasses.MISSING else field.default
        found[field.name] = {"type": str(field.type), "default": default}
    return found


def _merges(method: Method) -> bool:
    """As it is where nothing is said."""
    return method.merges(method.Config())


def _parts(method: Method) -> dict[str, str]:
    return {name: part[0] for name, part in method.parts(method.Config()).items()}


def _refusal(method: Method, parts: Mapping[str, str]) -> str:
    if _merges(method):
        return ""
    refused = [name for name in parts.values() if not _merges(plugins.method(name))]
    return REASONS.get(method.unmergeable, f"its {' and '.join(refused)} cannot be merged")
