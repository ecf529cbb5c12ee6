"""`nyx ingest` on packs of real pages: pages a second by one and by two processes, and memory as a pack grows."""

import hashlib
import re
import statistics
import sys
from pathlib import Path
from string import ascii_letters
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data.runs import Job, tenfold, watch

REPEATS = 3
COPIES = 10
PROCESSES = (1, 2)
CHUNKS = "chunks.parquet"
TOLD = re.compile(r"(\d+) pages → (\d+) chunks with (\d+) pictures, ([\d.]+) pages/s")
ROWS = 16


def ingest(pages: Path, processes: int) -> Job:
    nyx = str(Path(sys.executable).with_name("nyx"))
    command = [nyx, "ingest", str(pages), "--output", CHUNKS, "--processes", str(processes)]
    return Job(lambda url: command)


def copy_pages(pack: Path, copies: Path) -> None:
    """Write every page ten times, each with other letters, other bytes of its pictures and another id."""
    with pq.ParquetFile(pack) as source:
        schema = pa.schema([source.schema_arrow.field(name) for name in ("texts", "images", "doc_id")])
        with pq.ParquetWriter(copies, schema) as writer:
            for number in range(COPIES):
                for batch in source.iter_batches(batch_size=ROWS, columns=schema.names):
                    rows = [_copied(row, number) for row in batch.to_pylist()]
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _copied(row: dict[str, Any], number: int) -> dict[str, Any]:
    shifted = str.maketrans(ascii_letters, ascii_letters[number:] + ascii_letters[:number])
    return {
        # Cut at the same places as it was, but no chunk of it is the same.
        "texts": [text and text.translate(shifted) for text in row["texts"]],
        # What comes after its end is no part of a picture.
        "images": [image and image + bytes([number]) for image in row["images"]],
        "doc_id": f"{row['doc_id']} {number}",
    }


def run(pages: Path, processes: int, folder: Path) -> dict[str, Any]:
    """Ingest once, and return what was told of it, its memory, and a hash of the chunks."""
    memory = watch(ingest(pages, processes).start(folder, ""), folder)
    told = TOLD.search((folder / "stdout").read_text())
    assert told, "The command doesn't say how fast it was."
    count, chunks, pictures = map(int, told.groups()[:3])
    digest = hashlib.sha256((folder / CHUNKS).read_bytes()).hexdigest()
    facts = {"pages": count, "chunks": chunks, "pictures": pictures, "pages per second": float(told[4])}
    return facts | memory | {"sha256": digest}


def measure(packs: list[Path], folder: Path) -> dict[str, Any]:
    return {pack.name: measure_pack(pack.resolve(), folder) for pack in packs}


def measure_pack(pack: Path, folder: Path) -> dict[str, Any]:
    """Ingest a pack by turns with one process and with two, then its copies."""
    copies = folder / f"{pack.stem}-copies.parquet"
    copy_pages(pack, copies)
    turns = [{each: run(pack, each, folder) for each in PROCESSES} for _ in range(REPEATS)]
    grown = {each: run(copies, each, folder) for each in PROCESSES}
    report: dict[str, Any] = {name: turns[0][1][name] for name in ("pages", "chunks", "pictures")}
    for each in PROCESSES:
        rates = [turn[each]["pages per second"] for turn in turns]
        once = turns[0][each] | {"pages per second": statistics.median(rates), "of": rates}
        parts = {"once": once, "tenfold": grown[each]}
        report[f"{each} processes" if each > 1 else "1 process"] = {
            name: {key: value for key, value in part.items() if key != "sha256"} for name, part in parts.items()
        } | tenfold(parts)
    report["the same chunks"] = len({turn[each]["sha256"] for turn in turns for each in PROCESSES}) == 1
    report["the same chunks, tenfold"] = len({each["sha256"] for each in grown.values()}) == 1
    return report
