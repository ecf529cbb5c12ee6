"""Rows a second through a server that takes its time, against one request after the other."""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from benchmarks.data.slow_server import slow_server
from modeling_nyx.content_nyx import Content
from nyx.engines import Request
from nyx.reader import Reader
from nyx.records import image_bytes
from nyx.server_engine import ServerEngine

LATENCY = 0.05
MODEL = "slow"
ROWS = 100


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


def one_after_the_other(url: str, asked: Iterable[Request]) -> float:
    """Return the rows a second of a plain loop over requests that are written already, on one connection."""
    engine = ServerEngine(url, MODEL)
    first, *bodies = [engine.body(request) for request in asked]
    with httpx2.Client() as client:
        client.post(f"{url}/chat/completions", content=first)
        started = time.monotonic()
        for body in bodies:
            json.loads(client.post(f"{url}/chat/completions", content=body).content)
        return len(bodies) / (time.monotonic() - started)


def measure(folder: Path) -> dict[str, Any]:
    """Time many requests at a time, and what is left of the time without the server."""
    report: dict[str, Any] = {"latency": LATENCY, "concurrency": {}}
    with slow_server(LATENCY, folder / "log") as url:
        naive = one_after_the_other(url, requests(ROWS + 1))
        report["one after the other, rows per second"] = round(naive, 2)
        for concurrency in (1, 8, 16, 32):
            rows = ROWS * concurrency
            reader = Reader.from_server(url, MODEL, concurrency=concurrency, cache=folder / f"{concurrency}.sqlite")
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
