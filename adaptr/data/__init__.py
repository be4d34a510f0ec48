"""Records: what people train and measure on, and where each of them stands."""

from adaptr.data.read import read
from adaptr.data.records import Data, Place, Record
from adaptr.data.split import split

__all__ = ["Data", "Place", "Record", "read", "split"]
