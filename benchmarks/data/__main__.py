"""How fast, how safe and how lean the making of data is, each against a plain rival in the same run.

    python -m benchmarks.data --packs webdocs-a.parquet docs.parquet

reader             rows a second through a server that takes 50 ms, against one request after the other
questions          the same of `nyx build-qa`, all its steps included
feedback kills     feedback killed with SIGKILL at 20 moments, spread evenly over its work, and run again each time
questions kills    the same of `nyx build-qa`
feedback memory    peak memory of feedback when corpus and questions grow tenfold
questions memory   the same of `nyx build-qa`
ingest             pages a second of `nyx ingest` by one and by two processes, and peak memory, as packs grow tenfold

`--packs`: Parquet files of pages, for `ingest` alone. Without names all parts are measured.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import feedback, ingest, questions, reader
from train_scripts.provenance import commit

RESULTS = Path(__file__).parents[1] / "results" / "data.json"
PACKAGES = ("torch", "transformers", "pyarrow", "httpx2", "pillow", "bm25s")

# A part is added here: its name, and a function that takes an empty folder and returns what it measured.
PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "reader": reader.measure,
    "questions": questions.measure,
    "feedback kills": feedback.measure_kills,
    "questions kills": questions.measure_kills,
    "feedback memory": feedback.measure_memory,
    "questions memory": questions.measure_memory,
}
INGEST = "ingest"


def about() -> dict[str, Any]:
    """Say what measures, and where."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    hardware = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return {"commit": commit(), "hardware": hardware, "versions": versions}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join([*PARTS, INGEST]))
    parser.add_argument("--packs", nargs="*", type=Path, default=[])
    args = parser.parse_args(argv)
    parts = PARTS | ({INGEST: partial(ingest.measure, args.packs)} if args.packs else {})
    if unknown := set(args.parts) - set(parts):
        parser.error(f"no part {sorted(unknown)}; expected {', '.join(parts)}; {INGEST} needs --packs")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    here = about()  # the results themselves are a difference from the commit
    for part in args.parts or parts:
        command = f'python -m benchmarks.data "{part}"'
        if part == INGEST:
            command += f" --packs {' '.join(pack.name for pack in args.packs)}"
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as folder:
            report = {"command": command} | here | {"load before": round(load, 1)} | parts[part](Path(folder))
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[part] = report
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
