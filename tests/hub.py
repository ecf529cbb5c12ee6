"""A small Hub on this machine: as much of its HTTP protocol as the unmodified clients use, kept in memory.

    with serve() as hub:
        subprocess.run(..., env=hub.environment(home))

It refuses commits that name LFS objects it never received, uploads whose SHA-256 is not the announced one, commits
whose parent isn't the branch's last, and changes without its token. `hub.stall(kind, count)` makes the count-th upload
of an "object" or "commit" hang before it takes effect, for a client to be killed in the middle.
"""

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_pages import ROUTES, TOKEN, Refused
from tests.hub_store import Repository


class Hub(ThreadingHTTPServer):
    """The server and what it holds."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        # Large files lie elsewhere, as on the Hub: clients must not send their token along.
        self.storage = f"http://localhost:{self.server_port}"
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.counts: Counter[str] = Counter()
        self.stalled, self.released = threading.Event(), threading.Event()
        self.stall_at: tuple[str, int] | None = None

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """Return the environment of a client that knows this Hub alone, with a home of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        settings = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
        return kept | settings | ({"HF_TOKEN": token} if token else {})

    def stall(self, kind: str, count: int) -> None:
        self.stalled, self.released = threading.Event(), threading.Event()
        self.counts.clear()
        self.stall_at = (kind, count)

    def passes(self, kind: str) -> None:
        """Count an upload; hang for good if it is the one to stall at."""
        self.counts[kind] += 1
        if self.stall_at == (kind, self.counts[kind]):
            self.stalled.set()
            self.released.wait()
            raise Refused(503, "gone")

    def files(self, kind: str, name: str, revision: str = "main") -> dict[str, bytes]:
        found = self.repositories[kind, name].files(revision)
        return {path: file.data for path, file in sorted(found.items()) if path != ".gitattributes"}


class Handler(BaseHTTPRequestHandler):
    """Answers one request after the other on a kept connection."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self) -> None:
        parts = urlsplit(self.path)
        self.server.requests.append(f"{self.command} {parts.path}")
        self.query = parse_qs(parts.query)
        try:
            for method, pattern, act in ROUTES:
                if (found := re.fullmatch(pattern, parts.path)) and self.command in method:
                    groups = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                    return act(self, **groups)
            raise Refused(404, f"no such page: {parts.path}")
        except Refused as refusal:
            self.body()
            headers = {"X-Error-Message": str(refusal)} | ({"X-Error-Code": refusal.code} if refusal.code else {})
            self.send({"error": str(refusal)}, refusal.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def body(self) -> bytes:
        """Read what the client sent, once."""
        if "data" not in self.__dict__ or self.__dict__["of"] is not self.headers:
            chunks = []
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
            else:
                chunks.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            self.__dict__.update(data=b"".join(chunks), of=self.headers)
        return self.__dict__["data"]

    def send(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_file(self, data: bytes, headers: dict[str, str]) -> None:
        """Send a file, or the part of it that was asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self.send(data, headers=headers | {"Accept-Ranges": "bytes"})
        start = int(asked[1])
        part = data[start : int(asked[2]) + 1 if asked[2] else None]
        place = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(data)}"}
        return self.send(part, 206, headers | place)

    @property
    def is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repository(self, kind: str, name: str, write: bool = False) -> Repository:
        repository = self.server.repositories.get((kind.removesuffix("s"), name))
        if repository is None or (repository.private and not self.is_known):
            raise Refused(404 if self.is_known else 401, "Repository not found", "RepoNotFound")
        if write and not self.is_known:
            raise Refused(403, "This token may not write here")
        return repository

    def revision(self, repository: Repository, revision: str) -> str:
        sha = repository.branches.get(revision, revision)
        if sha not in repository.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a Hub until the block ends."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        hub.shutdown()
        hub.server_close()
        thread.join()
