"""What the benchmarks share: what ran on what, and how long calls take side by side."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from train_scripts.provenance import commit

SPREAD: dict[str, Callable[[list[float]], float]] = {"seconds": statistics.median, "least": min, "most": max}


def about(command: str, *packages: str) -> dict[str, Any]:
    """Say what was run, on what: command, commit, machine, its load, and versions of packages."""
    names = (
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    return {
        "command": command,
        "commit": commit(),
        "machine": f"{next(names, platform.machine())}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "versions": {package: version(package) for package in packages},
    }


def in_common(origins: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Say what pooled measurements come from: what is the same for all of them once, else a list of each one's."""
    return {
        key: value if all(each[key] == value for each in origins) else [each[key] for each in origins]
        for key, value in origins[0].items()
    }


def in_short(commits: str | list[str]) -> str:
    """Write a commit, or several, each once, by their beginnings, and say of which files differed."""
    listed = [commits] if isinstance(commits, str) else dict.fromkeys(commits)
    parts = (each.partition("-") for each in listed)
    return ", ".join(f"commit `{name[:10]}`{' with changes' * (mark == 'dirty')}" for name, _, mark in parts)


def interleaved(calls: dict[str, Callable[[], Any]], runs: int) -> dict[str, dict[str, float]]:
    """Time calls in turn, so that what else the machine does meets all alike: their median, least and most seconds."""
    return in_turn({name: partial(seconds_of, call) for name, call in calls.items()}, runs)


def in_turn(clocks: dict[str, Callable[[], float]], runs: int) -> dict[str, dict[str, float]]:
    """Let each say in turn how many seconds it took: the median, least and most of so many runs after a first one."""
    for clock in clocks.values():
        clock()  # what only the first run does isn't timed
    taken = [{name: clock() for name, clock in clocks.items()} for _ in range(runs)]
    return {
        name: {key: float(f"{of([each[name] for each in taken]):.4g}") for key, of in SPREAD.items()}
        for name in clocks
    }


def seconds_of(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
