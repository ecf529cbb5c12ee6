"""Answers outlive their process, however it ends, and several processes share them."""

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from nyx.cache import AnswerCache

WRITER = """
import sys
from pathlib import Path
from nyx.cache import AnswerCache
cache, name = AnswerCache(Path(sys.argv[1])), sys.argv[2]
for number in range(int(sys.argv[3])):
    kept = cache.keep(f"shared {number}", name)
    cache.keep(f"{name} {number}", "own")
    print(number, kept, flush=True)
"""


def start(path, name, count):
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_returns_what_was_kept(tmp_path):
    path = tmp_path / "folder" / "a.sqlite"
    assert AnswerCache(path).keep("k", "v") == "v"
    assert AnswerCache(path).get("k") == "v" and AnswerCache(path).get("other") is None


def test_the_first_answer_stays(tmp_path):
    one, two = AnswerCache(tmp_path / "a.sqlite"), AnswerCache(tmp_path / "a.sqlite")
    assert (one.keep("k", "first"), two.keep("k", "second"), two.get("k")) == ("first", "first", "first")


@pytest.mark.parametrize("place", ["file", "memory"])
def test_threads_share_one(place, tmp_path):
    cache = AnswerCache(tmp_path / "a.sqlite" if place == "file" else None)
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda number: cache.keep(f"k{number % 50}", str(number)), range(400)))
    assert all(kept[number] == cache.get(f"k{number % 50}") for number in range(400)) and len(set(kept)) == 50


def test_processes_that_start_together_share_one(tmp_path):
    path = tmp_path / "a.sqlite"
    writers = [start(path, name, 60) for name in "abcd"]
    said = [writer.communicate(timeout=60)[0].splitlines() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    # All of them were told the same of what they share.
    assert len({tuple(lines) for lines in said}) == 1 and len(said[0]) == 60
    cache = AnswerCache(path)
    assert all(cache.get(f"{name} {number}") == "own" for name in "abcd" for number in range(60))


def test_a_killed_process_leaves_all_it_kept(tmp_path):
    path = tmp_path / "a.sqlite"
    writer = start(path, "a", 100_000)
    for line in writer.stdout:
        if line.startswith("200 "):
            os.kill(writer.pid, signal.SIGKILL)
            break
    writer.communicate()
    cache = AnswerCache(path)
    assert all(cache.get(f"a {number}") == "own" for number in range(200))
    assert cache.keep("k", "v") == "v"


def test_answers_of_earlier_versions_are_read(tmp_path):
    with sqlite3.connect(tmp_path / "a.sqlite") as old:
        old.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")
        old.execute("INSERT INTO answers VALUES ('k', 'v')")
    assert AnswerCache(tmp_path / "a.sqlite").get("k") == "v"


def test_another_file_is_refused_and_kept(tmp_path):
    (tmp_path / "a.sqlite").write_text("A letter. " * 100)
    with pytest.raises(ValueError, match="a.sqlite holds no answers .* Name another file"):
        AnswerCache(tmp_path / "a.sqlite")
    assert (tmp_path / "a.sqlite").read_text().startswith("A letter.")


def test_a_full_disk_is_told(tmp_path):
    cache = AnswerCache(tmp_path / "a.sqlite")
    cache._database.execute("PRAGMA max_page_count = 4")
    with pytest.raises(OSError, match="a.sqlite cannot be read or written: database or disk is full"):
        for number in range(1000):
            cache.keep(str(number), "x" * 1000)
    assert cache.get("0") == "x" * 1000
