"""The page: how long from its command until it can be used, and how long a search takes.

    python -m benchmarks.space

It starts the real app on what `make demo` left in `runs/demo`; usable is when the page answers and a search through
its endpoint returns. A search is timed from a client's call to its answer, question by question.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client

from benchmarks.measure import SPREAD, about
from dataset_builders.schema import QAPair, read_records

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "space.json"
QUESTIONS = ROOT / "runs" / "demo" / "nyxqa" / "qa" / "test.parquet"
STARTS = 3
SEARCHES = 50
MOST_SECONDS = 300


@contextmanager
def running() -> Iterator[tuple[Client, dict[str, float]]]:
    """Run the app; yields a client, and after how many seconds the page and a first search were there."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    address, settings = f"http://127.0.0.1:{port}/", {k: v for k, v in os.environ.items() if not k.startswith("NYX_")}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        settings |= {"GRADIO_SERVER_PORT": port, "GRADIO_TEMP_DIR": folder, "HF_HUB_OFFLINE": "1"}
        started = time.perf_counter()
        command = [sys.executable, "space/app.py"]
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=log, stderr=log)
        try:
            while not answers(address):
                if process.poll() is not None or time.perf_counter() - started > MOST_SECONDS:
                    log.seek(0)
                    raise RuntimeError(f"The app did not start:\n{log.read().decode()}")
                time.sleep(0.05)
            page = time.perf_counter() - started
            client = Client(address, verbose=False, download_files=folder)
            client.predict(text="Where does the moth live?", api_name="/search")
            yield client, {"page": page, "usable": time.perf_counter() - started}
        finally:
            process.terminate()
            process.wait()


def answers(address: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(address).status_code == 200
    return False


def search_seconds(client: Client) -> list[float]:
    """Time a search for each of some test questions' words."""
    seconds = []
    for pair in list(read_records(QAPair, QUESTIONS))[:SEARCHES]:
        words = " ".join(item["text"] for item in pair.question if item["type"] == "text")
        started = time.perf_counter()
        client.predict(text=words, api_name="/search")
        seconds.append(time.perf_counter() - started)
    return seconds


def spread(seconds: list[float]) -> dict[str, float]:
    return {name: float(f"{of(seconds):.4g}") for name, of in SPREAD.items()}


def main() -> None:
    results: dict[str, Any] = about("python -m benchmarks.space", "gradio", "torch", "transformers")
    starts = []
    for _ in range(STARTS):
        with running() as (client, times):
            starts.append(times)
            seconds = search_seconds(client)
    results |= {f"seconds to {name}": spread([times[name] for times in starts]) for name in ("page", "usable")}
    percentile = statistics.quantiles(seconds, n=20)[-1]
    results["a search"] = {"searches": len(seconds), **spread(seconds), "95th percentile": float(f"{percentile:.4g}")}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
