"""Every way adaptr can refuse, drawn once. The number is the exit code of the command line.

AdaptrError
├── UsageError ................... 2  the call itself is wrong
│   ├── UnknownMethod                 no method of that name, with near names
│   ├── BadConfig                     a configuration field is unknown, missing or out of range
│   ├── BadReference                  a reference that names no place
│   ├── NoRoom                        a pool can't hold all adapters that a batch wants at once
│   │   └── AdapterTooLarge           an adapter needs more memory than a pool has in all
│   └── OutputExists                  the output is there already and `--force` was not given
├── InputError ................... 3  a file is not what it should be
│   ├── FormatError                   an adaptr or safetensors file breaks the format
│   │   ├── HeaderError               the safetensors part
│   │   │   ├── HeaderTruncated, HeaderTooLarge, HeaderNotUtf8, HeaderNotJson, HeaderTooDeep
│   │   │   ├── KeyDuplicate, KeyTooLong, EntryMalformed, DtypeUnknown, ShapeInvalid, MetadataInvalid
│   │   │   └── OffsetsInvalid, OffsetsOverlap, OffsetsHole, SizeMismatch, DataTruncated, DataTrailing
│   │   └── ManifestError             what adaptr says in it
│   │       ├── ManifestMissing, ManifestNotJson, ManifestNotCanonical, ManifestTooDeep
│   │       ├── FieldMissing, FieldInvalid, FormatTooNew, FeatureUnknown, VersionUnknown
│   │       └── TensorMissing, TensorUnexpected, KeyMalformed
│   ├── ForeignError                  a file of another tool can't be read
│   │   ├── UnknownFormat, FormatAmbiguous, LfsPointer, UnsafePickle, NoAdapterTensors
│   │   ├── ConfigMissing, ConfigConflict, TensorUnknown, TensorAbsent
│   │   └── LossyConversion           writing it would lose something, and `--lossy` was not given
│   ├── CheckpointError               a base checkpoint is incomplete or malformed
│   ├── RecipeError                   a recipe file says something that can't be carried out
│   ├── WeightsBeside                 other weights lie beside an adapter, and would be left out
│   ├── ShapeError                    a tensor's shape is not the one its configuration wants
│   ├── NonFinite                     NaN or infinity where there must be none
│   └── FileChanged                   a file is no longer the one whose header was read
├── WrongBase .................... 4  adapter and base don't belong together
│   └── TargetNotFound, TargetAmbiguous, TargetMismatch, ContentMismatch, TiedWeights
├── NotPossible .................. 5  the method can't do this
│   ├── NotMergeable, NoDelta, NotMerged, AlreadyAttached, NothingChanged
│   └── Unsupported                   what is wanted, the method or this model has no way to do
│       └── MissingContext            a formula asks for what the forward it runs in doesn't know
├── RegistryError ................ 6  registry or network
│   ├── NotFound                      no such artifact, tag or repository
│   ├── AuthError                     who you are is unknown or not enough
│   └── TransferError                 the network failed, whatever was tried
├── IntegrityError ............... 7  digest, signature or policy
│   ├── DigestMismatch, BadDigest, BadManifest
│   ├── UnsafeName, RefusedMediaType
│   ├── SignatureError                a signature that is missing, or does not fit
│   └── PolicyError, ReferenceMoved
└── MachineError ................. 8  this machine: permissions, locks
    ├── DiskFull, StoreLocked, StoreUnsafe
    └── MissingExtra                  an optional package is not installed
"""

from __future__ import annotations

import reprlib

from adaptr.called import called


def shown(value: object, limit: int = 80) -> str:
    """How something from a file appears in a message: cut, and with nothing that a terminal would obey."""
    if not isinstance(value, str):
        return reprlib.repr(value)
    return _escaped(value if len(value) <= limit else value[:limit] + "...")


def printable(text: str) -> str:
    """A text, of several lines perhaps, with nothing that a terminal would obey or that turns what is read around.

    What Python does not call printable is escaped: control characters, marks of direction, what has no width.
    """
    return "\n".join(map(_escaped, text.split("\n")))


def _escaped(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


class AdaptrError(Exception):
    """Root of all errors that adaptr raises on purpose.

    Messages quote files, so what a terminal would obey, and what can't be printed at all, is escaped; places of the
    store are called as they were given.
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(called(super().__str__()))


class UsageError(AdaptrError):
    """The call itself is wrong."""

    exit_code = 2


class UnknownMethod(UsageError):
    """No built-in or installed plugin has this method name."""


class BadConfig(UsageError):
    """A configuration field is unknown, missing, of the wrong type or out of range."""


class NoRoom(UsageError):
    """A pool can't hold all adapters that a batch wants at once."""


class AdapterTooLarge(NoRoom):
    """An adapter needs more memory than a pool has in all."""


class OutputExists(UsageError):
    """The output exists and nothing may be overwritten without being asked."""


class BadReference(UsageError):
    """A reference is not of any form that names a place."""


class InputError(AdaptrError):
    """A file is not what it should be."""

    exit_code = 3


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


class ForeignError(InputError):
    """A file of another tool can't be read as an adapter."""


class UnknownFormat(ForeignError):
    """Nothing that adaptr knows has this shape."""


class FormatAmbiguous(ForeignError):
    """A path that several formats take for their own."""


class LfsPointer(ForeignError):
    """A Git LFS pointer stands where the weights should be."""


class UnsafePickle(ForeignError):
    """A pickle that needs more than plain tensors: never executed."""


class NoAdapterTensors(ForeignError):
    """The file holds no adapter weights."""


class ConfigMissing(ForeignError):
    """The configuration beside the weights is absent or lacks what is needed."""


class ConfigConflict(ForeignError):
    """Configuration and tensors contradict each other."""


class TensorUnknown(ForeignError):
    """A tensor that the declared method does not have."""


class TensorAbsent(ForeignError):
    """The configuration promises a tensor that the file has not."""


class LossyConversion(ForeignError):
    """The target format can't hold everything."""


class CheckpointError(InputError):
    """A base checkpoint is incomplete or malformed."""


class RecipeError(InputError):
    """A recipe file says something that can't be carried out; the message names the line."""


class WeightsBeside(InputError):
    """Weights that were trained with an adapter lie beside its file, and would be left out in silence."""


class ShapeError(InputError):
    """A tensor's shape is not the one its configuration wants."""


class NonFinite(InputError):
    """NaN or infinity where there must be none."""


class FileChanged(InputError):
    """A file is no longer the one whose header was read."""


class WrongBase(AdaptrError):
    """Adapter and base don't belong together."""

    exit_code = 4


class TargetNotFound(WrongBase):
    """The base has no module or tensor of that name."""


class TargetAmbiguous(WrongBase):
    """A name of the adapter fits two places of the base."""


class TargetMismatch(WrongBase):
    """The base has the target, with another shape or kind."""


class ContentMismatch(WrongBase):
    """Same structure, other weights than the adapter was trained on."""


class TiedWeights(WrongBase):
    """Changing one of two tied weights changes both, and nobody said so."""


class NotPossible(AdaptrError):
    """The method can't do this."""

    exit_code = 5


class NotMergeable(NotPossible):
    """The method has no equivalent in the base's weights."""

    def __init__(self, method: str, reason: str, possible: str) -> None:
        super().__init__(f"`{method}` cannot be merged: {reason}. Possible: {possible}.")


class NoDelta(NotPossible):
    """What the adapter does is no difference of weights, or none that is known without the base."""


class NotMerged(NotPossible):
    """There is nothing to take out."""


class Unsupported(NotPossible):
    """The method does not work on this kind of target."""


class MissingContext(Unsupported):
    """A formula asks for what the forward it runs in doesn't know, or runs in none."""


class AlreadyAttached(NotPossible):
    """The same adapter, or one of the same name, is on the model already."""


class NothingChanged(NotPossible):
    """The operation would leave every element as it was."""


class RegistryError(AdaptrError):
    """A registry or the network failed."""

    exit_code = 6


class NotFound(RegistryError):
    """The registry, the Hub or the store has no such artifact, tag or repository."""


class AuthError(RegistryError):
    """The registry does not know the account, or the account may not do this."""


class TransferError(RegistryError):
    """The network failed, after all tries; what arrived is kept and the next try goes on from there."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        #: Seconds that the server asked to wait for.
        self.after = after


class IntegrityError(AdaptrError):
    """Content is not what was promised, or policy forbids it."""

    exit_code = 7


class DigestMismatch(IntegrityError):
    """Content is not what its digest promises."""


class BadDigest(IntegrityError):
    """Something that should be a digest is not one."""


class BadManifest(IntegrityError):
    """A manifest or index breaks the specification, or contradicts itself."""


class UnsafeName(IntegrityError):
    """A file name inside an artifact that could lead outside of it."""


class RefusedMediaType(IntegrityError):
    """Content of a type that adaptr does not open: archives, and what may run code."""


class SignatureError(IntegrityError):
    """A signature is missing, or is not of this content by this key."""


class PolicyError(IntegrityError):
    """The policy of this machine forbids it."""


class ReferenceMoved(IntegrityError):
    """A tag names something else than it did when it was pulled or locked."""


class MachineError(AdaptrError):
    """This machine can't do it: permissions, locks, space."""

    exit_code = 8


class DiskFull(MachineError):
    """No space left for the output; nothing was left behind."""


class StoreLocked(MachineError):
    """Another process holds the store for too long."""


class StoreUnsafe(MachineError):
    """The store belongs to somebody else, or others may write to it."""


class MissingExtra(MachineError):
    """An optional package is needed for this."""


class WeightsIgnored(UserWarning):
    """A warning: weights lie beside an adapter that was loaded without them."""
