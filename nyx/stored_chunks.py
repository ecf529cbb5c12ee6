"""Chunks whose contents stay in their file until they are asked for, so that no picture is in memory."""

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from threading import Lock

import pyarrow.parquet as pq

from modeling_nyx.content_nyx import Content
from nyx.records import Chunk, naming_damage, read_content

NAMES = ["id", "document_id", "source"]


def stored_chunks(path: Path) -> list[Chunk]:
    """Return the chunks of a Parquet file, which stays open; it may be replaced or removed meanwhile.

    Raises `ValueError` when the file cannot be read or lacks a column, and later, when a content is asked for that is
    none. Ids come as they are.
    """
    file = ChunkFile(path)
    return [StoredChunk(file, row) for row in range(len(file))]


class ChunkFile:
    """An open file of chunks: contents are read by groups of rows, of which the last one is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with naming_damage(path):
            self._file = pq.ParquetFile(path, pre_buffer=False)
            columns = self._file.schema_arrow.names
            if missing := {*NAMES, "content"} - set(columns):
                raise ValueError(f"{path} has columns {columns}, but Chunk needs {sorted(missing)} too.")
            self.names = self._file.read(NAMES)
        groups = (self._file.metadata.row_group(group) for group in range(self._file.num_row_groups))
        self._starts = list(accumulate((group.num_rows for group in groups), initial=0))
        self._group, self._contents, self._lock = -1, self.names["id"][:0], Lock()  # none is read yet

    def __len__(self) -> int:
        return self.names.num_rows

    def content(self, row: int) -> Content:
        """Return a chunk's content, pictures as bytes. Raises `ValueError` for what is none."""
        group = bisect_right(self._starts, row) - 1
        with self._lock:  # of several threads each gets its own
            if group != self._group:
                with naming_damage(self.path):
                    self._contents = self._file.read_row_group(group, ["content"])["content"]
                self._group = group
            value = self._contents[row - self._starts[group]]
        try:
            return read_content(value.as_py())
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.path}, row {row}: {error}") from error


class StoredChunk(Chunk):
    """A row of a file of chunks."""

    __slots__ = ("_file", "_row")
    _file: ChunkFile
    _row: int

    def __init__(self, file: ChunkFile, row: int) -> None:
        object.__setattr__(self, "_file", file)
        object.__setattr__(self, "_row", row)

    @property
    def id(self) -> str:
        return self._file.names["id"][self._row].as_py()

    @property
    def document_id(self) -> str:
        return self._file.names["document_id"][self._row].as_py()

    @property
    def source(self) -> str:
        return self._file.names["source"][self._row].as_py()

    @property
    def content(self) -> Content:
        return self._file.content(self._row)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Chunk):
            return NotImplemented
        names = all(getattr(self, name) == getattr(other, name) for name in NAMES)
        return names and self.content == other.content
