"""Side-by-side measurement: every figure in one run, in turn, as medians and as ratios to a named reference."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One finished process: seconds, without imports if it says so, of processor time; peak memory in MB; its own."""

    seconds: float
    work: float
    cpu: float
    peak: float
    said: Mapping[str, float]


def process(command: list[str], threads: int | None = None, cores: int | None = None) -> Sample:
    """Run a command to its end. A JSON object on its last line gives its own figures (`work`, ...).

    `threads`: of OpenMP. `cores`: how many the process may use at all, whatever threads it starts.
    """
    env = {**os.environ, "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    if threads:
        env["OMP_NUM_THREADS"] = str(threads)
    started = time.perf_counter()
    bound = sorted(os.sched_getaffinity(0))[:cores]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, bound),
    ) as child:
        out = child.stdout.read() if child.stdout else ""
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    last = out.strip().rpartition("\n")[2]
    said = json.loads(last) if last.startswith("{") else {}
    cpu = usage.ru_utime + usage.ru_stime
    return Sample(seconds, said.get("work", seconds), cpu, said.get("peak", usage.ru_maxrss / 1024), said)


def interleave(work: Mapping[str, Callable[[], object]], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """Seconds of each function, measured in turn: round after round, so that drift meets all alike."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + warm):
        for name, function in work.items():
            started = time.perf_counter()
            function()
            if number >= warm:
                found[name].append(time.perf_counter() - started)
    return found


def table(title: str, rows: Mapping[str, list[float]], reference: str, unit: float = 1e3, name: str = "ms") -> str:
    """Medians, minima and the ratio of medians (and of minima) to the reference, as Markdown."""
    base, least = statistics.median(rows[reference]), min(rows[reference])
    lines = [
        f"\n### {title}\n",
        f"| what | median {name} | min {name} | ratio of medians | of minima |",
        "|---|---|---|---|---|",
    ]
    for what, values in rows.items():
        median, low = statistics.median(values), min(values)
        cells = f"{median * unit:.1f} | {low * unit:.1f} | {median / base:.2f} | {low / least:.2f}"
        lines.append(f"| {what} | {cells} |")
    return "\n".join(lines)


def peak() -> float:
    """Peak resident memory of this process, MB. Not `ru_maxrss`, which starts at the parent's peak."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


def own(module: str, *arguments: str) -> list[str]:
    """The command line of a script beside this file."""
    return [sys.executable, str(Path(__file__).with_name(module)), *arguments]


def remove(*paths: Path) -> None:
    """Take away files and folders, if they are there."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def workplace() -> Path:
    """Where benchmarks keep their files: in memory if there is enough, so that the disk is not what is measured."""
    shared = Path("/dev/shm")
    default = (
        shared if shared.is_dir() and os.statvfs(shared).f_bavail * os.statvfs(shared).f_frsize > 12e9 else Path("/tmp")
    )
    return Path(os.environ.get("ADAPTR_BENCH", default / "adaptr-bench"))
