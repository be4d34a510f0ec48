"""The recipe as a JSON Schema: editors complete and check a YAML file by it."""

from __future__ import annotations

from typing import Any

from adaptr.training.fields import fields


def schema() -> dict[str, Any]:
    known = fields()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of `adaptr train`",
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, field in known.items() if field.required],
        "properties": {name: field.schema() for name, field in known.items()},
    }
