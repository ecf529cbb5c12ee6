"""What the tests' own Hub holds: files, and the commits and branches of a repository."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any


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
