"""The contract of a method, typed; read after `adaptr.hookspecs`. Who writes a method imports its words from here."""

from adaptr.contract.capabilities import Capabilities
from adaptr.contract.contract import Contract
from adaptr.contract.costs import Costs
from adaptr.contract.creation import Member
from adaptr.contract.lifecycle import Group, Phase, Run
from adaptr.contract.live import Live, Signal, Weighing
from adaptr.contract.mounts import Mount
from adaptr.contract.params import Param
from adaptr.contract.training import finished
from adaptr.contract.view import View
from adaptr.contract.weights import REASONS

__all__ = [
    "REASONS",
    "Capabilities",
    "Contract",
    "Costs",
    "Group",
    "Live",
    "Member",
    "Mount",
    "Param",
    "Phase",
    "Run",
    "Signal",
    "View",
    "Weighing",
    "finished",
]
