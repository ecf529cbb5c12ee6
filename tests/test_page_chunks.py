"""However many processes cut pages, chunks and reasons are the same, in the same order."""

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataset_builders.page_chunks import CutRule, chunk_pages
from nyx_cli.main import main
from tests.test_sources import png

PAGES = 40


@pytest.fixture
def source(tmp_path):
    """Pages of which every third has a picture that is broken, and every fifth nothing else; some rows are no page."""
    (tmp_path / "moth.png").write_bytes(png())
    (tmp_path / "broken.png").write_bytes(png()[:-30])
    rows = []
    for number in range(PAGES):
        picture = "broken.png" if number % 3 == 0 else "moth.png"
        words = None if number % 5 == 0 else f"Moth {number} flies. " * (1 + number % 7)
        missing = "none/../../x.png" if number % 7 == 0 else None
        rows.append({"texts": [words, None, None], "images": [None, picture, missing]})
    lines = [json.dumps(row) + "\n" for row in rows]
    lines[9:9] = ["no JSON\n"]
    (tmp_path / "pages.jsonl").write_text("".join([*lines, "[]\n"]))
    return tmp_path / "pages.jsonl"


def cut(source, **options):
    told = []
    pages = chunk_pages(source, CutRule(tokens=12, images=2), lambda *reason: told.append(reason), **options)
    return list(pages), told


def test_several_processes_give_what_one_gives(source):
    pages, told = cut(source)
    apart, told_apart = cut(source, processes=2)
    assert pages == apart and told == told_apart
    # Every fifteenth page had nothing but its broken picture.
    assert len(pages) == PAGES - 3 and max(map(len, pages)) > 1
    reasons = [reason.split(":")[0] for _, reason in told]
    assert reasons.count("empty page") == 3 and reasons.count("picture outside the folder") == 6
    assert sum("cannot be decoded" in reason for reason in reasons) == 14
    assert [int(name.split("#")[1]) for name, _ in told] == sorted(int(name.split("#")[1]) for name, _ in told)


def test_the_command_writes_the_same_files(source, tmp_path):
    written = []
    for processes in (1, 2):
        output = tmp_path / str(processes) / "chunks.parquet"
        with pytest.raises(SystemExit) as end:
            main(["ingest", str(source), "-o", str(output), "--processes", str(processes), "--limit", "20"])
        assert end.value.code == 0
        written.append({path.name: path.read_bytes() for path in output.parent.iterdir()})
    assert written[0] == written[1] and set(written[0]) == {"chunks.parquet", "chunks.dropped.jsonl"}


def test_a_process_that_dies_is_an_error(source):
    pages = chunk_pages(source, CutRule(tokens=12), lambda *reason: None, processes=2)
    next(pages)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(OSError, match="One of 2 processes died"):
        list(pages)


COMMAND = "from nyx_cli.main import main; import sys; main(sys.argv[1:])"


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_command_leaves_no_process_behind(source, tmp_path):
    long = tmp_path / "long.jsonl"
    long.write_text(source.read_text() * 2000)
    arguments = ["ingest", long, "-o", tmp_path / "out" / "c.parquet", "--processes", "2"]
    child = subprocess.Popen([sys.executable, "-c", COMMAND, *map(str, arguments)], stderr=subprocess.DEVNULL)
    # The two are children of a child.
    while len(started := [each for server in children(child.pid) for each in children(server)]) < 2:
        assert child.poll() is None
        time.sleep(0.05)
    child.kill()
    child.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{each}").exists() for each in started):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
