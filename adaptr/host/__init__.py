"""The only place that touches a live model: attach, train, detach.

`swap` gives target modules a cached subclass whose forward runs the View; `attention` and `prompt` host what is not a
layer. All of them leave state-dict keys, `isinstance`, deepcopy and pickle of the base as they were.
"""

from adaptr.host.attach import attach, attached, train
from adaptr.host.handle import Handle
from adaptr.host.identity import base_of, is_meta
from adaptr.host.layer import view_of
from adaptr.host.session import Session
from adaptr.host.state import State

__all__ = ["Handle", "Session", "State", "attach", "attached", "base_of", "is_meta", "train", "view_of"]
