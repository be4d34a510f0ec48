"""An adaptr or safetensors file breaks the format: exit code 3."""

from __future__ import annotations

from adaptr.errors.inputs import InputError


class FormatError(InputError):
    """A file breaks the adaptr file format."""


class HeaderError(FormatError):
    """The safetensors part of a file is malformed."""


class HeaderTruncated(HeaderError):
    """Fewer bytes than the length field and the header need."""


class HeaderTooLarge(HeaderError):
    """The header, or the manifest in it, is longer than the limit."""


class HeaderNotUtf8(HeaderError):
    """The header is not UTF-8, or has half of a surrogate pair."""


class HeaderNotJson(HeaderError):
    """The header is not a JSON object."""


class HeaderTooDeep(HeaderError):
    """The JSON nests deeper than the limit."""


class KeyDuplicate(HeaderError):
    """A key appears twice in one object."""


class KeyTooLong(HeaderError):
    """A tensor key is longer than the limit."""


class EntryMalformed(HeaderError):
    """A tensor entry is not {dtype, shape, data_offsets}."""


class DtypeUnknown(HeaderError):
    """A dtype outside the known list."""


class ShapeInvalid(HeaderError):
    """A dimension is negative or not an integer, there are too many, or the product overflows 63 bits."""


class OffsetsInvalid(HeaderError):
    """Offsets are reversed, negative or not integers."""


class OffsetsOverlap(HeaderError):
    """Two tensors share bytes."""


class OffsetsHole(HeaderError):
    """Bytes between two tensors belong to nobody."""


class SizeMismatch(HeaderError):
    """Shape times dtype is not the byte span."""


class DataTruncated(HeaderError):
    """The file ends before the last tensor does."""


class DataTrailing(HeaderError):
    """Bytes follow the last tensor."""


class MetadataInvalid(HeaderError):
    """`__metadata__` is not a map of strings to strings."""


class ManifestError(FormatError):
    """The manifest inside the header is wrong."""


class ManifestMissing(ManifestError):
    """A safetensors file without an adaptr manifest."""


class ManifestNotJson(ManifestError):
    """The manifest is not a JSON object."""


class ManifestNotCanonical(ManifestError):
    """The manifest is JSON but not in canonical form (RFC 8785)."""


class ManifestTooDeep(ManifestError):
    """The manifest nests deeper than the limit."""


class FieldMissing(ManifestError):
    """A required field is absent."""


class FieldInvalid(ManifestError):
    """A field has the wrong type or value."""


class FormatTooNew(ManifestError):
    """The format version is higher than this reader knows."""


class FeatureUnknown(ManifestError):
    """`requires` names a feature this reader does not understand."""


class VersionUnknown(ManifestError):
    """The file has a version of its method's mathematics that this adaptr does not compute."""


class TensorMissing(ManifestError):
    """A target lacks a tensor that its method needs."""


class TensorUnexpected(ManifestError):
    """A tensor that no target accounts for."""


class KeyMalformed(ManifestError):
    """A tensor key is not `<target>:<param>`, or has control characters."""
