"""The adaptr file format: one safetensors file whose header holds a canonical manifest. Specified in `registry_spec/`.

Reading a header needs neither torch nor numpy. `header` is the safetensors part, `canonical` and `manifest` what adaptr
says in it, `check` holds the tensors against that, `io` is files, `digest` identities.
"""

from adaptr.format.io import read, write

__all__ = ["read", "write"]
