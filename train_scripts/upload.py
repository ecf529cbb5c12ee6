"""Upload a folder to the Hub so that no loader ever takes a part of it for the whole.

An upload is several commits. What makes the repository loadable is committed last; while the rest is on its way, that
is absent, or for a dataset a card that names a file which doesn't exist (without a card, `datasets` would guess). Run
again after an interruption, the upload goes on; the finished tree is the same.
"""

import glob
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash

Kind = Literal["model", "dataset", "space"]
LAST: dict[Kind, tuple[str, ...]] = {
    "model": ("README.md", "config.json"),
    "dataset": ("README.md",),
    "space": ("app.py",),
}
UNFINISHED = """---
configs:
- config_name: unfinished
  default: true
  data_files: the-upload-of-this-dataset-is-not-finished
---

The upload of this dataset is not finished.
"""
# The Hub's own; it may add to it.
ATTRIBUTES = ".gitattributes"
SECONDS = 10.0


def check_name(name: str) -> None:
    """Raise `ValueError` unless a name is `org/name` as the Hub allows it."""
    if name.count("/") != 1:
        raise ValueError(f"{name!r} is no name of a repository; expected org/name.")
    validate_repo_id(name)


def reach(kind: Kind, name: str) -> None:
    """Raise `ValueError` or `OSError` unless there is a token, the Hub answers, and knows the token."""
    if get_token() is None:
        raise ValueError("There is no token for the Hub: set HF_TOKEN, or log in with `hf auth login`.")
    with _plain_errors(name):
        # The one call that takes a limit comes first: others would wait for an unreachable Hub for good.
        with suppress(RepositoryNotFoundError):
            HfApi().repo_info(name, repo_type=kind, timeout=SECONDS)
        HfApi().whoami()


def upload(staged: Path, kind: Kind, name: str, *, private: bool, revision: str | None, overwrite: bool) -> str:
    """Make the repository `name` hold the files of `staged` and nothing else; returns the commit's address.

    A repository (or branch, `revision`) that holds other content is refused unless `overwrite`. Raises `ValueError`
    or `OSError` saying what is wrong; nothing is written before everything has been checked.
    """
    with _plain_errors(name):
        api = HfApi()
        branch = _open(api, kind, name, private, revision)
        head, remote = _state(api, kind, name, branch)
        local = {path.relative_to(staged).as_posix(): path for path in sorted(staged.rglob("*")) if path.is_file()}
        foreign = [path for path, file in remote.items() if path not in local or not _same(file, local[path])]
        if foreign and not overwrite and not _is_new(api, kind, name, branch, remote):
            raise ValueError(
                f"{name} holds other content ({', '.join(sorted(foreign)[:3])}{', …' if len(foreign) > 3 else ''}). "
                "Pass --overwrite to replace it, or choose another name or --revision."
            )
        if foreign or local.keys() != remote.keys():
            gone = (set(foreign) - local.keys()) | (set(LAST[kind]) & remote.keys())
            _commit(api, staged, kind, name, branch, head, gone)
            _verify(api, kind, name, branch, local)
        commit = api.repo_info(name, repo_type=kind, revision=branch).sha
        prefix = constants.REPO_TYPES_URL_PREFIXES.get(kind, "")
        return f"{api.endpoint}/{prefix}{name}/tree/{commit}"


def _open(api: HfApi, kind: Kind, name: str, private: bool, revision: str | None) -> str:
    """Find or create the repository and branch; a new branch starts empty, at the repository's first commit."""
    try:
        info = api.repo_info(name, repo_type=kind)
        if private and not info.private:
            raise ValueError(f"{name} exists and is public: make it private on the Hub, or leave --private out.")
    except RepositoryNotFoundError:
        sdk = {"space_sdk": "gradio"} if kind == "space" else {}
        api.create_repo(name, repo_type=kind, private=private or None, exist_ok=True, **sdk)  # type: ignore[arg-type]
    if revision is None:
        return constants.DEFAULT_REVISION
    try:
        api.repo_info(name, repo_type=kind, revision=revision)
    except RevisionNotFoundError:
        first = api.list_repo_commits(name, repo_type=kind)[-1].commit_id
        api.create_branch(name, branch=revision, revision=first, repo_type=kind)
    return revision


def _state(api: HfApi, kind: Kind, name: str, branch: str) -> tuple[str, dict[str, RepoFile]]:
    """Return a branch's last commit and its files, less the mark of an upload that was interrupted."""
    head = api.repo_info(name, repo_type=kind, revision=branch).sha
    tree = api.list_repo_tree(name, recursive=True, revision=head, repo_type=kind)
    files = {each.path: each for each in tree if isinstance(each, RepoFile) and each.path != ATTRIBUTES}
    marked = {path for path, file in files.items() if file.blob_id == git_hash(UNFINISHED.encode())}
    return str(head), {path: file for path, file in files.items() if path not in marked}


def _same(file: RepoFile, path: Path) -> bool:
    if file.lfs is None:
        return file.blob_id == git_hash(path.read_bytes())
    with path.open("rb") as opened:
        return file.lfs.sha256 == hashlib.file_digest(opened, "sha256").hexdigest()


def _is_new(api: HfApi, kind: Kind, name: str, branch: str, remote: dict[str, RepoFile]) -> bool:
    """Tell whether there is only what the Hub puts into a repository when it is created: one commit, maybe a card."""
    return remote.keys() <= {"README.md"} and len(api.list_repo_commits(name, repo_type=kind, revision=branch)) == 1


def _commit(api: HfApi, staged: Path, kind: Kind, name: str, branch: str, head: str, gone: set[str]) -> None:
    """Take away what makes the repository loadable, add the data, add what makes it loadable."""
    where: dict[str, Any] = {"repo_id": name, "repo_type": kind, "revision": branch}
    last = list(LAST[kind])
    if kind == "dataset":
        head = api.upload_file(
            path_or_fileobj=UNFINISHED.encode(),
            path_in_repo="README.md",
            commit_message="Begin upload",
            parent_commit=head,
            **where,
        ).oid
        gone = gone - {"README.md"}
    where["folder_path"] = staged
    head = api.upload_folder(
        ignore_patterns=list(last),
        delete_patterns=[glob.escape(path) for path in gone],
        commit_message="Upload data",
        parent_commit=head,
        **where,
    ).oid
    api.upload_folder(allow_patterns=last, commit_message="Finish upload", parent_commit=head, **where)


def _verify(api: HfApi, kind: Kind, name: str, branch: str, local: dict[str, Path]) -> None:
    _, remote = _state(api, kind, name, branch)
    wrong = [path for path in local.keys() | remote.keys() if path not in remote or path not in local]
    wrong += [path for path in local.keys() & remote.keys() if not _same(remote[path], local[path])]
    if wrong:
        raise OSError(f"{name} does not hold what was uploaded: {sorted(wrong)[:3]} differ. Publish again.")


@contextmanager
def _plain_errors(name: str) -> Iterator[None]:
    """Turn the client's errors into ones that say in a line what is wrong."""
    try:
        yield
    except HfHubHTTPError as error:
        raise OSError(f"The Hub refused {name}: {error.server_message or _first_line(error)}") from error
    except HTTPError as error:
        raise OSError(
            f"{constants.ENDPOINT} cannot be reached ({_first_line(error)}). Check the network, and HF_ENDPOINT."
        ) from error
    except RuntimeError as error:
        # The client's word for an upload that failed.
        raise OSError(f"{_first_line(error)} ({_first_line(error.__cause__)}). Publish again to go on.") from error


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
