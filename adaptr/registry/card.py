"""The card of an adapter on the Hub, which shows it in its base's tree: what it is, how it is used, its origin.

It is made of the artifact and is no part of it: whoever pulls gets what was pushed, and the same digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from adaptr.foreign import OWN

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

NAME = "README.md"
MARK = "<!-- Made by `adaptr push` of the artifact"
_ON_THE_HUB = re.compile(r"[\w.-]+/[\w.-]+")


def is_made(text: bytes) -> bool:
    """Whether a card was made here."""
    return MARK.encode() in text


def made(adapter: Adapter, form: str, name: str, digest: object) -> str:
    """The card of an adapter that is published as `name`. `form`: the format of its files."""
    from huggingface_hub import ModelCardData

    base = adapter.base.id if _ON_THE_HUB.fullmatch(adapter.base.id) else ""
    said = {
        "base_model": base or None,
        "base_model_relation": "adapter" if base else None,
        "library_name": "adaptr" if form == OWN else form,
        "license": adapter.license or None,
        "tags": sorted({"adaptr", adapter.method, *adapter.tags}),
        "metrics": sorted(_measured(adapter).get("after", {})) or None,
    }
    head = ModelCardData(**{key: value for key, value in said.items() if value is not None}).to_yaml()  # type: ignore[arg-type]
    return "\n".join(["---", head.strip(), "---", "", *_body(adapter, form, name, base), f"{MARK} {digest}. -->", ""])


def _body(adapter: Adapter, form: str, name: str, base: str) -> Iterator[str]:
    of = f" of [{base}](https://huggingface.co/{base})" if base else ""
    yield from (f"# {adapter.name or name}", "", *([adapter.summary, ""] if adapter.summary else []))
    count = len(adapter.targets)
    on = f", on {count} layer{'s' * (count > 1)}" if count else ""
    yield from (f"An adapter{of} by the method `{adapter.method}`{on}.", "")
    model = f"hf://{base}" if base else "BASE"
    yield from ("## How to use it", "", "With adaptr:", "", "```sh")
    yield from (
        f"adaptr apply {model} hf://{name} --prompt '...'",
        f"adaptr merge {model} hf://{name} -o merged",
        "```",
        "",
    )
    if form == "peft":
        yield from ("With PEFT:", "", "```python", "from peft import AutoPeftModel", "")
        yield from (f'model = AutoPeftModel.from_pretrained("{name}")', "```", "")
    elif form == OWN:
        yield from (f"For PEFT: `adaptr pull hf://{name} -o folder --as peft`.", "")
    yield from _figures(_measured(adapter))
    yield from ("## Where it comes from", "", *_origin(adapter), "")


def _measured(adapter: Adapter) -> Mapping[str, Mapping[str, float]]:
    found = adapter.training.get("measured", {})
    return {when: found[when] for when in ("before", "after") if isinstance(found.get(when), Mapping)}


def _figures(measured: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    if "after" not in measured:
        return
    before = measured.get("before", {})
    yield from ("## Measured", "", "| | base | adapter |", "| --- | --- | --- |")
    for name, value in sorted(measured["after"].items()):
        yield f"| {name} | {before[name]:.4g} | {value:.4g} |" if name in before else f"| {name} | | {value:.4g} |"
    yield ""


def _origin(adapter: Adapter) -> Iterator[str]:
    operation, parents = adapter.lineage.get("operation", ""), adapter.lineage.get("parents", [])
    if operation:
        yield f"- made by `adaptr {operation}` of {len(parents)} parents:"
    for one in parents:
        yield f"    - {one.get('name') or 'unnamed'} `{one.get('digest', '')}`"
    if recipe := adapter.training.get("recipe_digest"):
        yield f"- trained by a recipe with the digest `{recipe}`"
    if adapter.base.content:
        yield f"- the base's weights: `{adapter.base.content}`"
