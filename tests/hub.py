"""A small Hub on this machine: as much of its HTTP protocol as the unmodified clients use, kept in memory.

    with serve() as hub:
        subprocess.run(..., env=hub.environment(home))

It refuses commits that name LFS objects it never received, uploads whose SHA-256 is not the announced one, commits
whose parent isn't the branch's last, and changes without its token. `hub.stall(kind, count)` makes the count-th upload
of an "object" or "commit" hang before it takes effect, for a client to be killed in the middle.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_" + "x" * 34
ORGANIZATION = "org"
LFS = (".parquet", ".safetensors", ".png")
DATE = "2026-01-01T00:00:00.000Z"


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a commit: its data, or an object in large file storage."""

    data: bytes
    is_lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()
        )

    @property
    def oid(self) -> str:
        return git_hash(self.pointer if self.is_lfs else self.data)

    def entry(self, path: str) -> dict[str, Any]:
        lfs = {"oid": self.sha256, "size": len(self.data), "pointerSize": len(self.pointer)}
        return {"type": "file", "path": path, "oid": self.oid, "size": len(self.data)} | (
            {"lfs": lfs} if self.is_lfs else {}
        )


@dataclass
class Repository:
    """Commits (files, title, parent) by their hash, and the branches that name the last ones."""

    private: bool
    commits: dict[str, tuple[dict[str, File], str, str | None]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, File], title: str) -> str:
        parent = self.branches.get(branch)
        words = json.dumps([title, parent, sorted((path, file.oid) for path, file in files.items())])
        sha = hashlib.sha1(words.encode()).hexdigest()
        self.commits[sha] = (files, title, parent)
        self.branches[branch] = sha
        return sha

    def files(self, revision: str = "main") -> dict[str, File]:
        return self.commits[self.branches.get(revision, revision)][0]

    def history(self, revision: str) -> list[str]:
        shas, sha = [], self.branches.get(revision, revision)
        while sha:
            shas.append(sha)
            sha = self.commits[sha][2] or ""
        return shas


class Refused(Exception):
    """An answer other than 200: status, and the Hub's code for it."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


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


def card_header(card: str) -> Any:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    return yaml.safe_load(found[1]) if found else {}


def whoami(request: Handler) -> None:
    if not request.is_known:
        raise Refused(401, "Invalid username or password.")
    request.send({"type": "user", "name": "somebody", "orgs": [{"name": ORGANIZATION}]})


def create(request: Handler) -> None:
    asked = json.loads(request.body())
    if not request.is_known:
        raise Refused(401, "Invalid username or password.")
    if asked["organization"] != ORGANIZATION:
        raise Refused(403, f"You don't have the rights to create a {asked['type']} under {asked['organization']}")
    name, kind = f"{asked['organization']}/{asked['name']}", asked.get("type") or "model"
    if (kind, name) in request.server.repositories:
        raise Refused(409, "You already created this repo")
    repository = Repository(private=asked.get("visibility") == "private")
    files = {".gitattributes": File("".join(f"*{suffix} filter=lfs\n" for suffix in LFS).encode())}
    if kind == "space":
        files["README.md"] = File(f"---\nsdk: {asked['sdk']}\n---\n".encode())
    repository.commit("main", files, "initial commit")
    request.server.repositories[kind, name] = repository
    prefix = "" if kind == "model" else f"{kind}s/"
    request.send({"url": f"{request.server.url}/{prefix}{name}", "name": name})


def info(request: Handler, kind: str, name: str, revision: str = "main") -> None:
    repository = request.repository(kind, name)
    sha = request.revision(repository, revision)
    siblings = [{"rfilename": path} for path in sorted(repository.files(sha))]
    card = repository.files(sha).get("README.md")
    request.send(
        {
            "id": name,
            "sha": sha,
            "private": repository.private,
            "lastModified": DATE,
            "siblings": siblings,
            "tags": [],
            "cardData": card_header(card.data.decode() if card else ""),
        }
    )


def tree(request: Handler, kind: str, name: str, revision: str, path: str = "") -> None:
    repository = request.repository(kind, name)
    files = repository.files(request.revision(repository, revision))
    inside = path.rstrip("/") + "/" if path else ""
    if path and not any(each.startswith(inside) for each in files):
        raise Refused(404, f"{path} does not exist", "EntryNotFound")
    deep = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    entries: dict[str, dict[str, Any]] = {}
    for each, file in sorted(files.items()):
        if each.startswith(inside):
            names = each.removeprefix(inside).split("/")
            for count in range(1, len(names)):
                folder = inside + "/".join(names[:count])
                entries[folder] = {"type": "directory", "path": folder, "oid": git_hash(folder.encode()), "size": 0}
            entries[each] = file.entry(each)
    shown = [entry for each, entry in entries.items() if deep or "/" not in each.removeprefix(inside)]
    request.send(shown)


def paths_info(request: Handler, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name)
    files = repository.files(request.revision(repository, revision))
    entries = []
    for path in parse_qs(request.body().decode()).get("paths", []):
        if path in files:
            entries.append(files[path].entry(path))
        elif any(each.startswith(path.rstrip("/") + "/") for each in files):
            entries.append({"type": "directory", "path": path, "oid": git_hash(path.encode()), "size": 0})
    request.send(entries)


def commits(request: Handler, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name)
    shas = repository.history(request.revision(repository, revision))
    titles = [(sha, repository.commits[sha][1]) for sha in shas]
    request.send([{"id": sha, "title": title, "message": "", "authors": [], "date": DATE} for sha, title in titles])


def branch(request: Handler, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name, write=True)
    start = json.loads(request.body() or b"{}").get("startingPoint", "main")
    if revision in repository.branches:
        raise Refused(409, "Reference already exists")
    repository.branches[revision] = request.revision(repository, start)
    request.send({})


def preupload(request: Handler, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name, write=True)
    files = repository.files(request.revision(repository, revision))
    modes = []
    for each in json.loads(request.body())["files"]:
        path, there = each["path"], files.get(each["path"])
        oid = (there.sha256 if there.is_lfs else there.oid) if there else None
        mode = "lfs" if path.endswith(LFS) or each["size"] > 10_000_000 else "regular"
        modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False} | ({"oid": oid} if oid else {}))
    request.send({"files": modes})


def batch(request: Handler, name: str) -> None:
    asked = json.loads(request.body())
    if not request.is_known:
        raise Refused(401, "Invalid username or password.")
    objects = []
    for each in asked["objects"]:
        target = f"{request.server.storage}/objects/{each['oid']}"
        actions = {"upload": {"href": target}, "verify": {"href": target + "/verify"}}
        there = each["oid"] in request.server.objects
        objects.append({"oid": each["oid"], "size": each["size"]} | ({} if there else {"actions": actions}))
    request.send({"transfer": "basic", "objects": objects})


def without_token(request: Handler) -> None:
    """The storage's addresses are signed, and it is none of the Hub: a token sent there is a token given away."""
    if "Authorization" in request.headers:
        raise Refused(400, "Only one auth mechanism allowed")


def put_object(request: Handler, oid: str) -> None:
    without_token(request)
    data = request.body()
    request.server.passes("object")
    if hashlib.sha256(data).hexdigest() != oid:
        raise Refused(400, f"The content's SHA-256 is not {oid}")
    request.server.objects[oid] = data
    request.send({})


def verify_object(request: Handler, oid: str) -> None:
    asked = json.loads(request.body())
    if len(request.server.objects.get(oid, b"")) != asked["size"]:
        raise Refused(400, f"Object {oid} has another size, or never came")
    request.send({})


def get_object(request: Handler, oid: str) -> None:
    without_token(request)
    request.send_file(request.server.objects[oid], {"ETag": f'"{oid}"'})


def commit(request: Handler, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name, write=True)
    lines = [json.loads(line) for line in request.body().splitlines()]
    request.server.passes("commit")
    head = request.revision(repository, revision)
    files = dict(repository.files(head))
    for line in lines:
        value = line["value"]
        if line["key"] == "header" and value.get("parentCommit", head) != head:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        if line["key"] == "file":
            files[value["path"]] = File(base64.b64decode(value["content"]))
        if line["key"] == "lfsFile":
            if len(request.server.objects.get(value["oid"], b"")) != value["size"]:
                raise Refused(400, f"LFS object {value['oid']} of {value['path']} was never received")
            files[value["path"]] = File(request.server.objects[value["oid"]], is_lfs=True)
        if line["key"] == "deletedFile":
            del files[value["path"]]
    sha = repository.commit(revision, files, lines[0]["value"]["summary"])
    request.send({"success": True, "commitOid": sha, "commitUrl": f"{request.server.url}/{name}/commit/{sha}"})


def resolve(request: Handler, name: str, revision: str, path: str, kind: str = "models") -> None:
    repository = request.repository(kind.strip("/"), name)
    sha = request.revision(repository, revision)
    file = repository.files(sha).get(path)
    headers = {"X-Repo-Commit": sha}
    if file is None:
        missing = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        return request.send(b"", 404, headers | missing)
    if file.is_lfs:
        linked = {"X-Linked-Size": str(len(file.data)), "X-Linked-ETag": f'"{file.sha256}"'}
        location = {"Location": f"{request.server.storage}/objects/{file.sha256}"}
        return request.send(b"", 302, headers | linked | location)
    return request.send_file(file.data, headers | {"ETag": f'"{file.oid}"'})


def validate_yaml(request: Handler) -> None:
    content = json.loads(request.body())["content"]
    try:
        card_header(content)
    except yaml.YAMLError as error:
        raise Refused(400, f"Invalid YAML: {error}") from error
    request.send({"errors": [], "warnings": []})


NAME, REVISION = r"(?P<name>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
OF = rf"/api/(?P<kind>models|datasets|spaces)/{NAME}"
ROUTES = [
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/repos/create", create),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("GET", OF, info),
    ("GET", rf"{OF}/revision/{REVISION}", info),
    ("GET", rf"{OF}/tree/{REVISION}(/(?P<path>.+))?", tree),
    ("GET", rf"{OF}/commits/{REVISION}", commits),
    ("POST", rf"{OF}/paths-info/{REVISION}", paths_info),
    ("POST", rf"{OF}/branch/{REVISION}", branch),
    ("POST", rf"{OF}/preupload/{REVISION}", preupload),
    ("POST", rf"{OF}/commit/{REVISION}", commit),
    ("POST", rf"/((datasets|spaces)/)?{NAME}\.git/info/lfs/objects/batch", batch),
    ("PUT", "/objects/(?P<oid>[0-9a-f]{64})", put_object),
    ("POST", "/objects/(?P<oid>[0-9a-f]{64})/verify", verify_object),
    ("GET HEAD", "/objects/(?P<oid>[0-9a-f]{64})", get_object),
    ("GET HEAD", rf"/(?P<kind>(datasets|spaces)/)?{NAME}/resolve/{REVISION}/(?P<path>.+)", resolve),
]


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
