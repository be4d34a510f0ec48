"""The local store: a content-addressed OCI image layout, which skopeo and its kin read as it is.

`layout` is the store itself, `ingest` brings blobs in verified, `index` keeps the names, `sweep` collects garbage,
`health` re-hashes everything.
"""

from adaptr.registry.store.layout import Store

__all__ = ["Store"]
