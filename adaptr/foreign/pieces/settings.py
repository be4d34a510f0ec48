"""Fields of the YAML that trainers leave beside weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptr.errors import ForeignError, shown


def fields(raw: bytes, name: str) -> Mapping[str, Any]:
    """What a file called `name` says. Raises `ForeignError` for what is no table of plain values."""
    import yaml

    from adaptr.untrusted.plain_yaml import Plain

    try:
        found = Plain(raw.decode()).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = shown(" ".join(str(error).split()), 200)
        raise ForeignError(f"`{name}` can't be read: {text}", hint="get it again") from None
    if not isinstance(found, dict):
        raise ForeignError(f"`{name}` holds a {type(found).__name__}", want="fields", hint="get it again")
    return {str(key): value for key, value in found.items()}
