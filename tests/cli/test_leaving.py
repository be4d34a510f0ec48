"""A process ends early, with all that is due at the end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LEAVE = "import sys\nfrom adaptr.__main__ import leave\n"


def end(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LEAVE + code]
    return subprocess.run(command, text=True, check=False, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("code", [0, 7])
def test_what_was_said_and_what_waits_for_the_end_comes_out(code: int) -> None:
    found = end(
        "import atexit\natexit.register(lambda: print('handler'))\nprint('said')\nsys.stderr.write('error')\n"
        f"leave({code})",
        stdout=subprocess.PIPE,
    )
    assert (found.returncode, found.stdout, found.stderr) == (code, "said\nhandler\n", "error")


def test_other_threads_are_waited_for() -> None:
    found = end(
        "import threading\ngo = threading.Event()\n"
        "threading.Thread(target=lambda: (go.wait(), print('thread'))).start()\n"
        "threading.Timer(0.1, go.set).start()\nleave(3)",
        stdout=subprocess.PIPE,
    )
    assert (found.returncode, found.stdout) == (3, "thread\n")


def test_nothing_is_taken_apart() -> None:
    found = end("class Last:\n    def __del__(self): print('apart')\nlast = Last()\nleave(0)", stdout=subprocess.PIPE)
    assert found.stdout == ""


def test_a_full_device_is_told() -> None:
    with open("/dev/full", "w") as full:
        found = end("print('said')\nleave(0)", stdout=full, env={**os.environ, "PYTHONUNBUFFERED": ""})
    assert found.returncode == 120
    assert "No space left" in found.stderr
