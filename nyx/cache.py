"""Answers on disk, so that none is asked for, or paid for, twice."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds to wait for another process that writes


class AnswerCache:
    """Answers by key in an SQLite file (or in memory), for many threads and many processes at once.

    What `keep` has returned survives the process, killed or not: SQLite writes ahead. Raises `ValueError` for a file
    that holds something else, `OSError` when the disk is full or the file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._lock = path, threading.Lock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._database = self._do(self._open)

    def get(self, key: str) -> str | None:
        """Return an answer, None if there is none yet."""
        read = "SELECT answer FROM answers WHERE key = ?"
        row = self._do(lambda: self._database.execute(read, (key,)).fetchone())
        return row and row[0]

    def keep(self, key: str, answer: str) -> str:
        """Keep an answer, and return what is kept: the first one, if another process was faster."""
        write = "INSERT OR IGNORE INTO answers VALUES (?, ?)"
        if self._do(lambda: self._database.execute(write, (key, answer)).rowcount):
            return answer
        return self.get(key) or answer

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self._path or ":memory:", timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        # In this mode a process that was killed leaves whole answers, and readers don't wait for a writer.
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")
        return database

    def _do(self, step: Callable[[], Any]) -> Any:
        try:
            with self._lock:
                return step()
        except sqlite3.OperationalError as error:
            raise OSError(f"The answers in {self._path} cannot be read or written: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self._path} holds no answers ({error}). Name another file for them.") from error
