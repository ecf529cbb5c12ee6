"""Runs of a command that makes data: killed again and again, or watched for their memory."""

import hashlib
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.data.reader import LATENCY
from benchmarks.data.slow_server import slow_server

DATASET = "nyxqa"
ANSWERS = "answers.json"
KILLS = 20

# Tells whether a run, by its folder and process, has begun a step.
Sign = Callable[[Path, int], bool]


def bar(name: str) -> Sign:
    """Look for a progress bar of that name in what the run said."""
    line = re.compile(rf"^{name}: ".encode(), re.MULTILINE)
    return lambda folder, pid: bool(line.search((folder / "stderr").read_bytes().replace(b"\r", b"\n")))


def file(name: str) -> Sign:
    """Look for a file, whose name may hold the process's number as `{pid}`."""
    return lambda folder, pid: (folder / name.format(pid=pid)).exists()


@dataclass(frozen=True)
class Job:
    """A command that reads what lies in a folder and makes a dataset there, `nyxqa`."""

    # Gets the server's address.
    command: Callable[[str], list[str]]
    # Steps in their order, and how one sees that each has begun.
    steps: dict[str, Sign] = field(default_factory=dict)
    # The step that asks the server.
    asks: str = ""

    def start(self, folder: Path, url: str) -> subprocess.Popen:
        with (folder / "stdout").open("w") as told, (folder / "stderr").open("w") as said:
            return subprocess.Popen(self.command(url), cwd=folder, stdout=told, stderr=said)


def finish(child: subprocess.Popen, folder: Path) -> None:
    """Wait for a run. Raises `RuntimeError` with what it said if it failed."""
    if status := child.wait():
        raise RuntimeError(f"A run ended with status {status}: {(folder / 'stderr').read_text()[-2000:]}")


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


class Clock:
    """How far runs have come: the seconds that an undisturbed one takes for it, without starting up.

    Steps that ask the server are as far as its log is long; others begin anew with every run, and go by the time.
    """

    def __init__(self, job: Job, log: Path) -> None:
        self.job, self.log, self.logged = job, log, lines(log)
        self.names, self.seconds = list(job.steps), dict.fromkeys(job.steps, 0.0)
        self.calls = 0

    def learn(self, child: subprocess.Popen, folder: Path) -> None:
        """Take the times of a whole run."""
        began: dict[str, float] = {}
        while child.poll() is None:
            if step := self.step(folder, child.pid):
                began.setdefault(step, time.monotonic())
            time.sleep(0.01)
        finish(child, folder)
        assert list(began) == self.names, f"The steps seen are {list(began)}, of {self.names}."
        ends = [*list(began.values())[1:], time.monotonic()]
        self.seconds = {name: end - start for (name, start), end in zip(began.items(), ends, strict=True)}
        self.calls = lines(self.log) - self.logged
        self.logged += self.calls

    def step(self, folder: Path, pid: int) -> str | None:
        """Return the furthest step that a run has begun."""
        return next((name for name in reversed(self.names) if self.job.steps[name](folder, pid)), None)

    def before(self, step: str) -> float:
        return sum(self.seconds[name] for name in self.names[: self.names.index(step)])

    def now(self, step: str | None, since: float) -> float:
        """Return how far the run is that has been in a step since then, with all that the runs before it asked."""
        asked = min(1.0, (lines(self.log) - self.logged) / self.calls)
        done = self.before(self.job.asks) + asked * self.seconds[self.job.asks] if asked else 0.0
        if step is None or step == self.job.asks:
            return done
        return max(done, self.before(step) + min(self.seconds[step], time.monotonic() - since))


def kill_at(moment: float, start: Callable[[], subprocess.Popen], folder: Path, clock: Clock) -> str:
    """Kill a run when it is that far, and return in which step it was.

    One that is done before, as its last steps are faster than the undisturbed run's, is run again, and killed earlier.
    """
    child, step, since = start(), None, time.monotonic()
    while clock.now(step, since) < moment:
        if child.poll() is not None:
            finish(child, folder)
            return kill_at(0.97 * moment, start, folder, clock)
        # A step's sign may be gone when it is over.
        found = clock.step(folder, child.pid)
        if found and (step is None or clock.before(found) > clock.before(step)):
            step, since = found, time.monotonic()
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    return step or "start"


def kill_and_resume(
    job: Job, prepare: Callable[[Path], Path], folder: Path, concurrency: int, kills: int = KILLS
) -> dict[str, Any]:
    """Kill one run again and again, and hold what it leaves against an undisturbed one."""
    whole, killed, log = prepare(folder / "whole"), prepare(folder / "killed"), folder / "log"
    steps: Counter[str] = Counter()
    with slow_server(LATENCY, log, whole / ANSWERS) as url:
        clock = Clock(job, log)
        clock.learn(job.start(whole, url), whole)
        work = sum(clock.seconds.values())
        for number in range(1, kills + 1):
            steps[kill_at(work * number / (kills + 1), partial(job.start, killed, url), killed, clock)] += 1
        finish(job.start(killed, url), killed)
    asked = log.read_text().split()
    plain, asked = asked[: clock.calls], asked[clock.calls :]
    return {
        "kills": {name: steps[name] for name in ("start", *job.steps) if steps[name]},
        "seconds of work": {name: round(seconds, 1) for name, seconds in clock.seconds.items()},
        "concurrency": concurrency,
        "calls": len(plain),
        "calls paid twice": len(asked) - len(set(asked)),
        "share paid twice": round((len(asked) - len(set(asked))) / len(plain), 4),
        "the same calls": set(asked) == set(plain),
        "output byte-identical": output(whole) == output(killed),
    }


def output(folder: Path) -> dict[str, str]:
    """Hash every file of the dataset, the answers' database apart: its pages are where they happened to be written."""
    found = (path for path in sorted((folder / DATASET).rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
        if not path.name.startswith("answers.sqlite")
    }


def watch(child: subprocess.Popen, folder: Path) -> dict[str, float]:
    """Return a run's peak memory in MB: its own, all of it, and, with its processes', without files mapped into it.

    What forked processes still share counts for each.
    """
    peak = anonymous = 0
    while child.poll() is None:
        try:
            own, *others = map(_status, _family(child.pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
        peak = max(peak, own.get("VmHWM", 0))
        anonymous = max(anonymous, sum(each.get("RssAnon", 0) for each in [own, *others]))
        time.sleep(0.02)
    finish(child, folder)
    return {"MB": round(peak / 1024, 1), "MB without mapped files": round(anonymous / 1024, 1)}


def _family(pid: int | str) -> list[int | str]:
    """Return a process, its children, and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(child))]


def _status(pid: int | str) -> dict[str, int]:
    """Return a process's memory, kB by kind."""
    found = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {each[0].rstrip(":"): int(each[1]) for each in found if each[2:] == ["kB"]}


def tenfold(report: dict[str, Any]) -> dict[str, float]:
    """Return how many times the memory of `once` `tenfold` needs."""
    return {
        f"{measure}, tenfold / once": round(report["tenfold"][measure] / report["once"][measure], 3)
        for measure in ("MB", "MB without mapped files")
    }


def measure_growth(
    job: Job, prepare: Callable[[Path, int], dict[str, Any]], folder: Path, sizes: Sequence[int]
) -> dict[str, Any]:
    """Watch a run on so many pages, and on ten times as many."""
    report: dict[str, Any] = {}
    for name, count in zip(("once", "tenfold"), sizes, strict=True):
        place = folder / name
        facts = prepare(place, count)
        with slow_server(0.0, folder / f"{name}.log", place / ANSWERS) as url:
            report[name] = watch(job.start(place, url), place) | {"pages": count} | facts
        report[name]["calls"] = lines(folder / f"{name}.log")
    return report | tenfold(report)
