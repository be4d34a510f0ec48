"""Puts compiled kernels into a wheel where there is a C compiler. Without one it is a wheel of Python alone."""

from __future__ import annotations

import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Hook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        building = runpy.run_path(str(Path(self.root, "adaptr", "kernels", "building.py")))
        if building["build"]():
            # of this platform, and of any Python: it is no extension module
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data.update(pure_python=False, tag=f"py3-none-{platform}")
            build_data["artifacts"].append(str(building["LIBRARY"].relative_to(self.root)))
