"""A file is not what it should be: exit code 3."""

from __future__ import annotations

from adaptr.errors.base import AdaptrError


class InputError(AdaptrError):
    """A file is not what it should be."""

    exit_code = 3


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


class DataError(InputError):
    """A file of examples can't be read as it was said to be."""


class BadRecord(DataError):
    """One record is no example of the task; the message names its file and line."""


class WeightsBeside(InputError):
    """Weights that were trained with an adapter lie beside its file, and would be left out in silence."""


class ShapeError(InputError):
    """A tensor's shape is not the one its configuration wants."""


class NonFinite(InputError):
    """NaN or infinity where there must be none."""


class FileChanged(InputError):
    """A file is no longer the one whose header was read."""


class WeightsIgnored(UserWarning):
    """A warning: weights lie beside an adapter that was loaded without them."""


class TrainedOtherwise(UserWarning):
    """A warning: a file is read as all tools read it, and the training that wrote it meant another change."""
