"""Tasks: what a record is an example of, and which model answers it."""

from adaptr.tasks.base import Batch, Encoded, Example, Limits, Task, Tools
from adaptr.tasks.find import by_name, find, names
from adaptr.tasks.tools import of_tools, tools

__all__ = ["Batch", "Encoded", "Example", "Limits", "Task", "Tools", "by_name", "find", "names", "of_tools", "tools"]
