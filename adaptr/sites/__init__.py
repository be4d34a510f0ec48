"""Sites: the sorts of places in a live model where a method can sit. One small file each, found by its name.

A site says how to find its places by role, what must be checked, how to mount a state there and take it off, and how
the state stands around what is below it (`adaptr.sites.base.Site`). Decision 19 has the table of formulas.
"""

from adaptr.host.finding import names, site

__all__ = ["names", "site"]
