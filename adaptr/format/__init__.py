"""The adaptr file format: one safetensors file whose header holds a canonical manifest. Specified in `registry_spec/`.

Reading a header needs neither torch nor numpy. `header` is the safetensors part, `canonical` and `manifest` what adaptr
says in it, `check` holds the tensors against that, `io` is files, `digest` identities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaptr.format.io import read, write

__all__ = ["read", "write"]


def __getattr__(name: str) -> object:
    """`read` and `write`, with what files need, which whoever looks at a header alone does not."""
    if name in __all__:
        from adaptr.format import io

        return getattr(io, name)
    raise AttributeError(f"module `{__name__}` has no `{name}`")
