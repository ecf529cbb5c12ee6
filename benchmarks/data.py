"""How fast, how safe and how lean the making of data is, each against a plain rival in the same run.

    python -m benchmarks.data reader kills memory

reader   rows a second through a server that takes 50 ms, against one request after the other
kills    feedback killed with SIGKILL at 20 moments, spread evenly over its work, and run again each time
memory   peak memory of feedback when corpus and questions grow tenfold
"""

import argparse
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch
from PIL import Image

from benchmarks.slow_server import slow_server
from dataset_builders.almanac import TINY_VLM
from dataset_builders.almanac_guide import field_guide
from dataset_builders.schema import Chunk, QAPair, read_records, write_records
from modeling_nyx.content_nyx import Content, text_of
from nyx.engines import Request
from nyx.reader import Reader
from nyx.records import image_bytes
from nyx.server_engine import ServerEngine

RESULTS = Path(__file__).parent / "results" / "data.json"
LATENCY = 0.05
KEPT = ("candidates.jsonl", "train.parquet", "train.dropped.jsonl", "train.statistics.json", "train.verdicts.jsonl")


def noise(side: int, seed: int) -> bytes:
    """Make a picture that no format makes smaller."""
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    return image_bytes(Image.fromarray(pixels))


def requests(count: int, start: int = 0) -> Iterator[Request]:
    """Yield different requests of about 200 words and one picture of 12 kB."""
    words, picture = "The moth lives by the salt marsh, and flies in May. " * 20, noise(64, 0)
    for number in range(start, start + count):
        items: Content = [
            {"type": "text", "text": f"Document: {number} {words}"},
            {"type": "image", "image": picture},
            {"type": "text", "text": "\nQuestion: Where does it live?\n"},
        ]
        yield Request("Answer the question from the documents.", items)


def measure_reader(folder: Path) -> dict[str, Any]:
    """Time one request after the other, then many at a time, and what is left of the time without the server."""
    report: dict[str, Any] = {"latency": LATENCY, "concurrency": {}}
    with slow_server(LATENCY, None, folder / "log") as url:
        bodies = [ServerEngine(url, "m").body(each) for each in requests(101)]
        with httpx2.Client() as client:
            client.post(f"{url}/chat/completions", content=bodies[0])
            started = time.monotonic()
            for body in bodies[1:]:
                json.loads(client.post(f"{url}/chat/completions", content=body).content)
            naive = 100 / (time.monotonic() - started)
        report["one after the other, rows per second"] = round(naive, 2)
        for concurrency in (1, 8, 16, 32):
            rows = 100 * concurrency
            reader = Reader.from_server(url, "m", concurrency=concurrency, cache=folder / f"{concurrency}.sqlite")
            for _ in reader.complete(requests(concurrency, 10**6)):
                pass  # connections are made
            wall, own = time.monotonic(), time.process_time()
            answers = sum(answer == "unknown" for answer in reader.complete(requests(rows)))
            wall, own = time.monotonic() - wall, time.process_time() - own
            assert answers == rows
            again = time.process_time()
            for _ in reader.complete(requests(rows)):
                pass
            report["concurrency"][concurrency] = {
                "rows per second": round(rows / wall, 1),
                "share of concurrency × one after the other": round(rows / wall / (concurrency * naive), 3),
                "own CPU ms per row": round(own / rows * 1000, 3),
                "own CPU ms per row that is in the cache": round((time.process_time() - again) / rows * 1000, 3),
            }
    return report


def make_dataset(folder: Path, questions: int) -> Path:
    """Write an Almanac with so many questions, and their answers for the server."""
    chunks, pairs = field_guide("train", questions // 3, 0)
    unique = list({text_of(pair.question): pair for pair in pairs}.values())[:questions]
    write_records(chunks, folder / "corpus" / "train.parquet")
    write_records(unique, folder / "qa" / "train.parquet")
    answers = {text_of(pair.question): pair.answers[0] for pair in unique}
    (folder / "answers.json").write_text(json.dumps(answers))
    return folder


def start(dataset: Path, url: str, *options: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "train_scripts.collect_feedback",
        "--dataset",
        str(dataset),
        "--reader",
        f"{url}#slow",
    ]
    command += ["--retriever", str(TINY_VLM), *options]
    with (dataset / "stderr").open("w") as said:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)


def finish(child: subprocess.Popen, dataset: Path) -> None:
    if child.wait():
        raise RuntimeError((dataset / "stderr").read_text()[-2000:])


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


class Clock:
    """How far feedback has come: seconds that an undisturbed run would have taken for it, without starting up."""

    def __init__(self, found: Path, log: Path) -> None:
        self.found, self.log = found, log
        self.search = self.read = 0.0
        self.calls = self.questions = 1

    def time_undisturbed(self, child: subprocess.Popen, dataset: Path) -> None:
        """Learn from a whole run."""
        began = searched = None
        while child.poll() is None:
            now = time.monotonic()
            began = began or (now if self.found.exists() else None)
            searched = searched or (now if lines(self.log) else None)
            time.sleep(0.01)
        finish(child, dataset)
        assert began and searched
        self.search, self.read = searched - began, time.monotonic() - searched
        self.calls, self.questions = lines(self.log), lines(self.found) - 1

    def now(self, began: float | None) -> float:
        """Return the seconds of work done; in the search, which shows blocks only, since this child began it."""
        calls = lines(self.log)
        if calls:
            return self.search + self.read * min(1.0, calls / self.calls)
        return 0.0 if began is None else min(self.search, time.monotonic() - began)


def measure_kills(folder: Path, kills: int = 20, questions: int = 1100, concurrency: int = 8) -> dict[str, Any]:
    """Kill one run again and again, and hold what it leaves against an undisturbed one."""
    whole, killed = (make_dataset(folder / name, questions) for name in ("whole", "killed"))
    options = ["--concurrency", str(concurrency), "--candidates", "8"]
    clock = Clock(whole / "feedback" / "candidates.jsonl", folder / "whole.log")
    with slow_server(LATENCY, whole / "answers.json", folder / "whole.log") as url:
        clock.time_undisturbed(start(whole, url, *options), whole)
    moments = [(clock.search + clock.read) * number / (kills + 1) for number in range(1, kills + 1)]
    clock.found, clock.log = killed / "feedback" / "candidates.jsonl", folder / "killed.log"
    steps: Counter[str] = Counter()
    with slow_server(LATENCY, killed / "answers.json", folder / "killed.log") as url:
        for moment in moments:
            child, began = start(killed, url, *options), None
            while clock.now(began) < moment:
                if child.poll() is not None:
                    finish(child, killed)
                    raise RuntimeError(f"The run ended before second {moment:.1f} of its work.")
                began = began or (time.monotonic() if clock.found.exists() else None)
                time.sleep(0.002)
            child.send_signal(signal.SIGKILL)
            child.wait()
            steps["read" if lines(clock.log) else "search"] += 1
        finish(start(killed, url, *options), killed)
    asked, plain = ((folder / f"{name}.log").read_text().split() for name in ("killed", "whole"))
    done = [json.loads(line)["id"] for line in (killed / "feedback" / "train.verdicts.jsonl").read_text().splitlines()]
    return {
        "kills": dict(steps),
        "seconds of work": {"search": round(clock.search, 1), "read": round(clock.read, 1)},
        "concurrency": concurrency,
        "calls": len(plain),
        "calls paid twice": len(asked) - len(set(asked)),
        "share paid twice": round((len(asked) - len(set(asked))) / len(plain), 4),
        "the same calls": set(asked) == set(plain),
        "output byte-identical": all(_hash(whole, name) == _hash(killed, name) for name in KEPT),
        "every question once": done == [pair.id for pair in read_records(QAPair, killed / "qa" / "train.parquet")],
    }


def _hash(dataset: Path, name: str) -> str:
    return hashlib.sha256((dataset / "feedback" / name).read_bytes()).hexdigest()


def picture_pages(folder: Path, count: int) -> Path:
    """Write a corpus of pages with a picture each, and a question about every fourth."""
    text = "Moth {0} lives in bay {0}.".format
    pictures = ({"type": "image", "image": noise(64, number)} for number in range(count))
    chunks = (
        Chunk(f"c{number}", f"d{number}", "s", [{"type": "text", "text": text(number)}, picture])
        for number, picture in enumerate(pictures)
    )
    write_records(chunks, folder / "corpus" / "train.parquet")
    answers = {f"Where does moth {number} live?": f"bay {number}." for number in range(0, count, 4)}
    pairs = (
        QAPair(question, [{"type": "text", "text": question}], [answer], [], None, [], "text")
        for question, answer in answers.items()
    )
    write_records(pairs, folder / "qa" / "train.parquet")
    (folder / "answers.json").write_text(json.dumps(answers))
    return folder


def watch(child: subprocess.Popen, dataset: Path) -> dict[str, float]:
    """Return a process's peak memory in MB: all of it, and without files mapped into memory, looked at often."""
    peak, anonymous = 0, 0
    while child.poll() is None:
        try:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
        except FileNotFoundError:
            break
        peak = max(peak, int(status.get("VmHWM", "0 kB").split()[0]))
        anonymous = max(anonymous, int(status.get("RssAnon", "0 kB").split()[0]))
        time.sleep(0.02)
    finish(child, dataset)
    return {"MB": round(peak / 1024, 1), "MB without mapped files": round(anonymous / 1024, 1)}


def measure_memory(folder: Path, pages: int = 1200) -> dict[str, Any]:
    """Run feedback on a corpus, and on one ten times as large with ten times the questions."""
    report: dict[str, Any] = {}
    for name, count in (("once", pages), ("tenfold", 10 * pages)):
        dataset = picture_pages(folder / name, count)
        with slow_server(0.0, dataset / "answers.json", folder / f"{name}.log") as url:
            report[name] = watch(start(dataset, url), dataset)
        size = (dataset / "corpus" / "train.parquet").stat().st_size
        report[name] |= {"pages": count, "questions": count // 4, "MB of pages": round(size / 2**20, 1)}
    for measure in ("MB", "MB without mapped files"):
        report[f"{measure}, tenfold / once"] = round(report["tenfold"][measure] / report["once"][measure], 3)
    return report


# A part is added here: its name, and a function that takes an empty folder and returns what it measured.
PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "reader": measure_reader,
    "kills": measure_kills,
    "memory": measure_memory,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    for part in parser.parse_args(argv).parts:
        with tempfile.TemporaryDirectory() as folder:
            report = PARTS[part](Path(folder))
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
        hardware = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
        about = {"command": f"python -m benchmarks.data {part}", "commit": commit, "hardware": hardware}
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[part] = about | {"load": round(os.getloadavg()[0], 1)} | report
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
