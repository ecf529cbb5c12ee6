"""The pages of the tests' own Hub: as much of the protocol as the unmodified clients use."""

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qs

import yaml

from tests.hub_store import File, Repository, git_hash

TOKEN = "hf_" + "x" * 34
ORGANIZATION = "org"
LFS = (".parquet", ".safetensors", ".png")
DATE = "2026-01-01T00:00:00.000Z"


class Refused(Exception):
    """An answer other than 200: status, and the Hub's code for it."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


def card_header(card: str) -> Any:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    return yaml.safe_load(found[1]) if found else {}


def whoami(request: Any) -> None:
    if not request.is_known:
        raise Refused(401, "Invalid username or password.")
    request.send({"type": "user", "name": "somebody", "orgs": [{"name": ORGANIZATION}]})


def create(request: Any) -> None:
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


def info(request: Any, kind: str, name: str, revision: str = "main") -> None:
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


def tree(request: Any, kind: str, name: str, revision: str, path: str = "") -> None:
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


def paths_info(request: Any, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name)
    files = repository.files(request.revision(repository, revision))
    entries = []
    for path in parse_qs(request.body().decode()).get("paths", []):
        if path in files:
            entries.append(files[path].entry(path))
        elif any(each.startswith(path.rstrip("/") + "/") for each in files):
            entries.append({"type": "directory", "path": path, "oid": git_hash(path.encode()), "size": 0})
    request.send(entries)


def commits(request: Any, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name)
    shas = repository.history(request.revision(repository, revision))
    titles = [(sha, repository.commits[sha][1]) for sha in shas]
    request.send([{"id": sha, "title": title, "message": "", "authors": [], "date": DATE} for sha, title in titles])


def branch(request: Any, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name, write=True)
    start = json.loads(request.body() or b"{}").get("startingPoint", "main")
    if revision in repository.branches:
        raise Refused(409, "Reference already exists")
    repository.branches[revision] = request.revision(repository, start)
    request.send({})


def preupload(request: Any, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name, write=True)
    files = repository.files(request.revision(repository, revision))
    modes = []
    for each in json.loads(request.body())["files"]:
        path, there = each["path"], files.get(each["path"])
        oid = (there.sha256 if there.is_lfs else there.oid) if there else None
        mode = "lfs" if path.endswith(LFS) or each["size"] > 10_000_000 else "regular"
        modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False} | ({"oid": oid} if oid else {}))
    request.send({"files": modes})


def batch(request: Any, name: str) -> None:
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


def without_token(request: Any) -> None:
    """The storage's addresses are signed, and it is none of the Hub: a token sent there is a token given away."""
    if "Authorization" in request.headers:
        raise Refused(400, "Only one auth mechanism allowed")


def put_object(request: Any, oid: str) -> None:
    without_token(request)
    data = request.body()
    request.server.passes("object")
    if hashlib.sha256(data).hexdigest() != oid:
        raise Refused(400, f"The content's SHA-256 is not {oid}")
    request.server.objects[oid] = data
    request.send({})


def verify_object(request: Any, oid: str) -> None:
    asked = json.loads(request.body())
    if len(request.server.objects.get(oid, b"")) != asked["size"]:
        raise Refused(400, f"Object {oid} has another size, or never came")
    request.send({})


def get_object(request: Any, oid: str) -> None:
    without_token(request)
    request.send_file(request.server.objects[oid], {"ETag": f'"{oid}"'})


def commit(request: Any, kind: str, name: str, revision: str) -> None:
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


def resolve(request: Any, name: str, revision: str, path: str, kind: str = "models") -> None:
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


def validate_yaml(request: Any) -> None:
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
