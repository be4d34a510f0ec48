"""Bytes that others wrote: the one way in. Files are regular and read whole or refused; JSON and YAML are strict.

Nothing is allocated on the say-so of a file, nothing waits for a pipe, and what comes out is a document of plain types,
not nested deep, without numbers or texts that later steps could stumble over.
"""

from adaptr.untrusted.documents import MAX_DEPTH, Repeated, TooDeep, json_file, json_object, loads
from adaptr.untrusted.files import MAX_DOCUMENT, opened, whole

__all__ = ["MAX_DEPTH", "MAX_DOCUMENT", "Repeated", "TooDeep", "json_file", "json_object", "loads", "opened", "whole"]
