"""The fields of a training recipe, in docs/training.md."""

from __future__ import annotations

import json

from adaptr.training.fields import Field
from adaptr.training.fields import fields as recipe_fields
from pages.markdown import table


def fields_table() -> str:
    rows = [(f"`{name}`", _may_be(one), _unless(one), one.help) for name, one in recipe_fields().items()]
    return table(("field", "is", "unless given", "what"), rows)


def _may_be(field: Field) -> str:
    least, most, out = field.bounds
    said = ", ".join(f"`{choice}`" for choice in field.choices) or field.wanted
    if least is not None:
        said += f", {'more than' if out else 'at least'} {least:,}"
    return said + (f", at most {most:,}" if most is not None else "")


def _unless(field: Field) -> str:
    if field.required:
        return "required"
    return "" if field.default in (None, "", (), {}) else f"`{json.dumps(field.default)}`".replace('"', "")
