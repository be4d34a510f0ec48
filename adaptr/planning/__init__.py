"""What a method costs on a base, before anything is loaded: counts, memory, overhead, and which one to take.

Everything follows from the base's `config.json` (decision 0024). What a method has and costs is asked of the method.
"""

from adaptr.planning.estimate import Estimate, before
from adaptr.planning.plan import Plan, plan

__all__ = ["Estimate", "Plan", "before", "plan"]
