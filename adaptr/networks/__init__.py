"""One module of an image model has several names: diffusers', and those of the checkpoints it was published in.

A path begins with the component of a pipeline that it is in (decision 25). Another library may keep the rows of several
modules in one tensor (q, k and v), or one module's in several.
"""

from adaptr.networks.blocks import block_weights, is_of_blocks
from adaptr.networks.spelling import COMPONENTS, PUBLISHED, spellings, widths
from adaptr.networks.table import Spelling

__all__ = ["COMPONENTS", "PUBLISHED", "Spelling", "block_weights", "is_of_blocks", "spellings", "widths"]
