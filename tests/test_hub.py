"""The tests' own Hub refuses what the real one refuses; otherwise uploading to it would prove nothing."""

import hashlib

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tests.hub_pages import TOKEN

DATA = b"weights" * 100
OID = hashlib.sha256(DATA).hexdigest()
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def api(hub) -> HfApi:
    api = HfApi()
    api.create_repo("org/nyx")
    return api


def commit(hub, *lines: str, name: str = "org/nyx") -> httpx.Response:
    header = '{"key": "header", "value": {"summary": "s", "description": ""}}'
    url = f"{hub.url}/api/models/{name}/commit/main"
    return httpx.post(url, content="\n".join([header, *lines]), headers=BEARER)


def test_an_object_that_never_came_is_refused(hub, api):
    line = f'{{"key": "lfsFile", "value": {{"path": "a.safetensors", "oid": "{OID}", "size": {len(DATA)}}}}}'
    answer = commit(hub, line)
    assert answer.status_code == 400 and "never received" in answer.text and hub.files("model", "org/nyx") == {}
    assert httpx.put(f"{hub.url}/objects/{OID}", content=DATA).status_code == 200
    assert commit(hub, line.replace(str(len(DATA)), "3")).status_code == 400
    assert commit(hub, line).status_code == 200 and hub.files("model", "org/nyx") == {"a.safetensors": DATA}


def test_other_content_than_announced_is_refused(hub):
    answer = httpx.put(f"{hub.url}/objects/{OID}", content=DATA[1:])
    assert answer.status_code == 400 and "SHA-256" in answer.text and not hub.objects


def test_a_commit_on_an_older_one_is_refused(hub, api):
    first = api.repo_info("org/nyx").sha
    api.upload_file(path_or_fileobj=b"a", path_in_repo="a", repo_id="org/nyx", parent_commit=first)
    with pytest.raises(HfHubHTTPError, match="412"):
        api.upload_file(path_or_fileobj=b"b", path_in_repo="b", repo_id="org/nyx", parent_commit=first)
    assert hub.files("model", "org/nyx") == {"a": b"a"}


def test_strangers_may_neither_write_nor_see_what_is_private(hub, api, monkeypatch):
    api.create_repo("org/hidden", private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(HfHubHTTPError):
        HfApi().create_commit("org/nyx", [CommitOperationAdd("a", b"a")], commit_message="a")
    with pytest.raises(RepositoryNotFoundError):
        HfApi().repo_info("org/hidden")
    assert HfApi().repo_info("org/nyx").private is False and hub.files("model", "org/nyx") == {}


def test_large_files_lie_elsewhere_and_are_given_without_the_token_alone(hub, api):
    api.upload_file(path_or_fileobj=DATA, path_in_repo="a.safetensors", repo_id="org/nyx")
    answer = httpx.head(f"{hub.url}/org/nyx/resolve/main/a.safetensors", headers=BEARER)
    assert answer.status_code == 302 and answer.headers["X-Linked-Size"] == str(len(DATA))
    assert (
        answer.headers["X-Linked-ETag"] == f'"{OID}"'
        and answer.headers["X-Repo-Commit"] == api.repo_info("org/nyx").sha
    )
    place = answer.headers["Location"]
    assert httpx.URL(place).host != httpx.URL(hub.url).host and httpx.get(place).content == DATA
    assert httpx.get(place, headers={"Range": "bytes=3-9"}).content == DATA[3:10]
    assert httpx.get(place, headers=BEARER).status_code == 400
    (entry,) = [each for each in api.list_repo_tree("org/nyx") if each.path == "a.safetensors"]
    assert entry.lfs.sha256 == OID and api.get_paths_info("org/nyx", "a.safetensors")[0].blob_id == entry.blob_id
