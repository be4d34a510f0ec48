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
│   ├── DataError                     a file of examples can't be read as it was said to be
│   │   └── BadRecord                 one record is no example of the task, with its file and line
│   ├── WeightsBeside                 other weights lie beside an adapter, and would be left out
│   ├── ShapeError                    a tensor's shape is not the one its configuration wants
│   ├── NonFinite                     NaN or infinity where there must be none
│   └── FileChanged                   a file is no longer the one whose header was read
├── WrongBase .................... 4  adapter and base don't belong together
│   └── TargetNotFound, TargetAmbiguous, TargetMismatch, ContentMismatch, TiedWeights
├── NotPossible .................. 5  the method can't do this
│   ├── NotMergeable, NoDelta, NotMerged, AlreadyAttached, NothingChanged
│   ├── Diverged                      a training whose loss is no number, or rises without end
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
├── MachineError ................. 8  this machine: permissions, locks
│   ├── DiskFull, StoreLocked, StoreUnsafe
│   └── MissingExtra                  an optional package is not installed
└── Interrupted .................. 130  it was asked to stop, and can go on later
"""

from __future__ import annotations

from adaptr.errors.artifacts import (
    AuthError,
    BadDigest,
    BadManifest,
    DigestMismatch,
    IntegrityError,
    NotFound,
    PolicyError,
    ReferenceMoved,
    RefusedMediaType,
    RegistryError,
    SignatureError,
    TransferError,
    UnsafeName,
)
from adaptr.errors.base import (
    AdaptrError,
)
from adaptr.errors.formats import (
    DataTrailing,
    DataTruncated,
    DtypeUnknown,
    EntryMalformed,
    FeatureUnknown,
    FieldInvalid,
    FieldMissing,
    FormatError,
    FormatTooNew,
    HeaderError,
    HeaderNotJson,
    HeaderNotUtf8,
    HeaderTooDeep,
    HeaderTooLarge,
    HeaderTruncated,
    KeyDuplicate,
    KeyMalformed,
    KeyTooLong,
    ManifestError,
    ManifestMissing,
    ManifestNotCanonical,
    ManifestNotJson,
    ManifestTooDeep,
    MetadataInvalid,
    OffsetsHole,
    OffsetsInvalid,
    OffsetsOverlap,
    ShapeInvalid,
    SizeMismatch,
    TensorMissing,
    TensorUnexpected,
    VersionUnknown,
)
from adaptr.errors.inputs import (
    BadRecord,
    CheckpointError,
    ConfigConflict,
    ConfigMissing,
    DataError,
    FileChanged,
    ForeignError,
    FormatAmbiguous,
    InputError,
    LfsPointer,
    LossyConversion,
    NoAdapterTensors,
    NonFinite,
    RecipeError,
    ShapeError,
    TensorAbsent,
    TensorUnknown,
    TrainedOtherwise,
    UnknownFormat,
    UnsafePickle,
    WeightsBeside,
    WeightsIgnored,
)
from adaptr.errors.machine import (
    DiskFull,
    Interrupted,
    MachineError,
    MissingExtra,
    StoreLocked,
    StoreUnsafe,
)
from adaptr.errors.models import (
    AlreadyAttached,
    ContentMismatch,
    Diverged,
    MissingContext,
    NoDelta,
    NothingChanged,
    NotMergeable,
    NotMerged,
    NotPossible,
    TargetAmbiguous,
    TargetMismatch,
    TargetNotFound,
    TiedWeights,
    Unsupported,
    WrongBase,
)
from adaptr.errors.text import printable, shown
from adaptr.errors.usage import (
    AdapterTooLarge,
    BadConfig,
    BadReference,
    NoRoom,
    OutputExists,
    UnknownMethod,
    UsageError,
)

__all__ = [
    "AdapterTooLarge", "AdaptrError", "AlreadyAttached", "AuthError", "BadConfig", "BadDigest", "BadManifest",
    "BadRecord", "BadReference", "CheckpointError", "ConfigConflict", "ConfigMissing", "ContentMismatch",
    "DataError", "DataTrailing", "DataTruncated", "DigestMismatch", "DiskFull", "Diverged", "DtypeUnknown",
    "EntryMalformed", "FeatureUnknown", "FieldInvalid", "FieldMissing", "FileChanged", "ForeignError",
    "FormatAmbiguous",
    "FormatError", "FormatTooNew", "HeaderError", "HeaderNotJson", "HeaderNotUtf8", "HeaderTooDeep",
    "HeaderTooLarge", "HeaderTruncated", "InputError", "IntegrityError", "Interrupted", "KeyDuplicate", "KeyMalformed",
    "KeyTooLong", "LfsPointer", "LossyConversion", "MachineError", "ManifestError", "ManifestMissing",
    "ManifestNotCanonical", "ManifestNotJson", "ManifestTooDeep", "MetadataInvalid", "MissingContext",
    "MissingExtra", "NoAdapterTensors", "NoDelta", "NoRoom", "NonFinite", "NotFound", "NotMergeable", "NotMerged",
    "NotPossible", "NothingChanged", "OffsetsHole", "OffsetsInvalid", "OffsetsOverlap", "OutputExists",
    "PolicyError", "RecipeError", "ReferenceMoved", "RefusedMediaType", "RegistryError", "ShapeError",
    "ShapeInvalid", "SignatureError", "SizeMismatch", "StoreLocked", "StoreUnsafe", "TargetAmbiguous",
    "TargetMismatch", "TargetNotFound", "TensorAbsent", "TensorMissing", "TensorUnexpected", "TensorUnknown",
    "TiedWeights", "TrainedOtherwise", "TransferError", "UnknownFormat", "UnknownMethod", "UnsafeName", "UnsafePickle",
    "Unsupported", "UsageError", "VersionUnknown", "WeightsBeside", "WeightsIgnored", "WrongBase", "printable", "shown",
]  # fmt: skip
