"""A corpus of chunks by id, whose contents stay on disk until they are asked for."""

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path

import pyarrow as pa

from dataset_builders.schema import Chunk, content_id, features
from modeling_nyx.content_nyx import Content, to_content
from nyx.records import batches, open_parquet

ROWS = 256


class Corpus:
    """Chunks of a Parquet file.

    Parquet is read by the hundred, and what feedback needs are single chunks, in any order, many times: so there is a
    copy in Arrow's own format, mapped into memory, in a file that disappears with the process.
    """

    def __init__(self, mapped: mmap.mmap) -> None:
        table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
        self._mapped, self._column, self._sources, self._given = mapped, table["content"], table["source"], 0
        self.ids: list[str] = table["id"].to_pylist()
        self.documents: dict[str, str] = dict(zip(self.ids, table["document_id"].to_pylist(), strict=True))
        self._places = {chunk: place for place, chunk in enumerate(self.ids)}

    @classmethod
    def open(cls, path: Path) -> "Corpus":
        """Read a corpus that `write_records` wrote.

        Raises `ValueError` for another file, or an empty one, `OSError` where there is no room for the copy.
        """
        batches = _batches(path)
        first = next(batches)
        with tempfile.TemporaryFile(dir=path.parent) as file:
            with pa.ipc.new_file(file, first.schema) as writer:
                for batch in chain([first], batches):
                    writer.write_batch(batch)
            file.flush()
            return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def sources(self) -> list[str]:
        """Where each chunk is from."""
        return self._sources.to_pylist()

    @cached_property
    def keys(self) -> list[str]:
        """Each chunk's content as a hash; ids may be of another kind."""
        return [content_id(self.contents([chunk])[0]) for chunk in self.ids]

    def contents(self, ids: Sequence[str]) -> list[Content]:
        """Return the contents of chunks, pictures as bytes."""
        self._given += len(ids)
        if self._given > ROWS and hasattr(mmap, "MADV_DONTNEED"):
            # What was read stays in the system's cache as long as there is room, but no longer counts as ours.
            self._mapped.madvise(mmap.MADV_DONTNEED)
            self._given = 0
        return [to_content(self._column[self._places[chunk]].as_py()) for chunk in ids]


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    if not path.is_file():
        raise ValueError(f"No corpus at {path}. Make it first, or name another folder.")
    columns = list(features(Chunk))
    with open_parquet(path) as source:
        if missing := set(columns) - set(source.schema_arrow.names):
            raise ValueError(f"{path} has columns {source.schema_arrow.names}; a corpus needs {sorted(missing)} too.")
        if not source.metadata.num_rows:
            raise ValueError(f"{path} holds no chunks.")
        yield from batches(source, columns)
