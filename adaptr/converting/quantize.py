"""Adapters in fewer bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr import plugins
from adaptr.families.quantized import require_some
from adaptr.sources.given import Given, opened

if TYPE_CHECKING:
    from adaptr.adapter import Adapter


def quantize(adapter: Given, scheme: str) -> Adapter:
    """The adapter stored in `scheme`: fp16, bf16, int8, fp8, nf4 or int4-g32.

    What it cost is in its `quantization`. Raises `Unsupported` where the scheme makes nothing of it smaller.
    """
    found = opened(adapter)
    made: Adapter = plugins.hooks(found.method).quantize(adapter=found, scheme=scheme)
    require_some(made, scheme)
    return made
