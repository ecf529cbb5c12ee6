"""Uploads: nothing is replaced silently, no part passes for the whole, and one that was killed goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from dataset_builders.almanac import build
from train_scripts.publish import stage_dataset, stage_model
from train_scripts.upload import UNFINISHED, check_name, reach, upload

SCRIPT = """
import sys
from pathlib import Path
from train_scripts.upload import upload
upload(Path(sys.argv[1]), sys.argv[2], sys.argv[3], private=False, revision=None, overwrite=False)
"""
LOAD = """
import json, sys
from datasets import load_dataset
from transformers import AutoModel
answers = {}
for name in sys.argv[1:]:
    kind, repository = name.split(":")
    try:
        if kind == "model":
            vectors = AutoModel.from_pretrained(repository, trust_remote_code=True).encode_queries(["moth"])
            answers[name] = len(vectors[0])
        else:
            answers[name] = load_dataset(repository)["train"].num_rows
    except Exception as error:
        answers[name] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
"""


def put(staged: Path, kind: str = "model", name: str = "org/nyx", **options) -> str:
    return upload(staged, kind, name, **{"private": False, "revision": None, "overwrite": False} | options)


def contents(staged: Path) -> dict[str, bytes]:
    return {p.relative_to(staged).as_posix(): p.read_bytes() for p in sorted(staged.rglob("*")) if p.is_file()}


@pytest.fixture
def staged(tmp_path) -> Path:
    """A folder that has a model's file names; what they hold does not matter to uploading."""
    folder = tmp_path / "staged"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in ("README.md", "config.json", "model.safetensors", "1_Pooling/config.json"):
        (folder / name).write_text(f"this is {name}")
    return folder


def test_the_repository_holds_the_folder_and_nothing_more_happens_the_second_time(hub, staged):
    address = put(staged)
    assert hub.files("model", "org/nyx") == contents(staged)
    history = hub.repositories["model", "org/nyx"].history("main")
    assert address == f"{hub.url}/org/nyx/tree/{history[0]}"
    assert put(staged) == address and hub.repositories["model", "org/nyx"].history("main") == history


@pytest.mark.parametrize(
    ("kind", "last"), [("model", {"config.json", "README.md"}), ("dataset", {"README.md"}), ("space", {"app.py"})]
)
def test_what_makes_it_loadable_comes_last(kind, last, hub, staged):
    (staged / "app.py").write_text("print()")
    put(staged, kind)
    repository = hub.repositories[kind, "org/nyx"]
    newest, *before = repository.history("main")
    *states, _ = [repository.files(sha) for sha in before]
    final = repository.files(newest)
    assert {path for path in final if path not in states[0] or final[path] != states[0][path]} == last
    for state in states:
        for path in last:
            assert path not in state or (kind == "dataset" and state[path].data == UNFINISHED.encode())


def test_other_content_is_refused_and_replaced_if_asked(hub, staged):
    put(staged)
    (staged / "1_Pooling" / "config.json").unlink()
    (staged / "model.safetensors").write_text("other weights")
    before = hub.files("model", "org/nyx")
    with pytest.raises(ValueError, match=r"other content \(1_Pooling/config.json, model.safetensors\).*--overwrite"):
        put(staged)
    assert hub.files("model", "org/nyx") == before
    put(staged, overwrite=True)
    assert hub.files("model", "org/nyx") == contents(staged)
    repository = hub.repositories["model", "org/nyx"]
    # Old settings never stood beside new weights.
    for sha in repository.history("main"):
        files = repository.files(sha)
        assert "config.json" not in files or files["model.safetensors"].data in (
            b"other weights",
            before["model.safetensors"],
        )
        if "config.json" not in files:
            assert "README.md" not in files


def test_a_repository_created_on_the_hub_is_taken(hub, staged):
    HfApi().create_repo("org/nyx", repo_type="space", space_sdk="gradio")
    (staged / "app.py").write_text("print()")
    put(staged, "space")
    assert hub.files("space", "org/nyx") == contents(staged)
    HfApi().create_repo("org/written")
    HfApi().upload_file(path_or_fileobj=b"by hand", path_in_repo="README.md", repo_id="org/written")
    with pytest.raises(ValueError, match=r"other content \(README.md\)"):
        put(staged, "model", "org/written")


def test_private_is_kept(hub, staged):
    put(staged, private=True)
    assert hub.repositories["model", "org/nyx"].private
    put(staged, name="org/open")
    with pytest.raises(ValueError, match="org/open exists and is public"):
        put(staged, name="org/open", private=True)


def test_a_new_branch_starts_empty(hub, staged):
    put(staged)
    main = hub.files("model", "org/nyx")
    (staged / "config.json").write_text("other")
    put(staged, revision="v2")
    assert hub.files("model", "org/nyx", "v2") == contents(staged) != main == hub.files("model", "org/nyx")
    put(staged, revision="v2")


def test_a_commit_in_between_is_not_overwritten(hub, staged, monkeypatch):
    put(staged)
    (staged / "model.safetensors").write_text("other weights")
    original = HfApi.upload_folder

    def late(self, **options):
        monkeypatch.setattr(HfApi, "upload_folder", original)
        self.upload_file(path_or_fileobj=b"!", path_in_repo="config.json", repo_id="org/nyx")
        return self.upload_folder(**options)

    monkeypatch.setattr(HfApi, "upload_folder", late)
    with pytest.raises(OSError, match="The Hub refused org/nyx: A commit has happened since"):
        put(staged, overwrite=True)
    assert hub.files("model", "org/nyx")["config.json"] == b"!"


@pytest.mark.parametrize("name", ["nyx", "a/b/c", "org/", "/nyx", "org/na me", "org/..", "https://x/y"])
def test_malformed_names_are_refused(name):
    with pytest.raises(ValueError, match=r"expected org/name|Repo id must"):
        check_name(name)


def test_without_a_token_or_a_known_one_it_says_so(hub, staged, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    with pytest.raises(OSError, match="The Hub refused org/nyx: .*token"):
        reach("model", "org/nyx")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(staged / "none"))
    with pytest.raises(ValueError, match="no token for the Hub: set HF_TOKEN, or log in"):
        reach("model", "org/nyx")
    assert not hub.repositories


def test_a_namespace_of_others_is_refused(hub, staged):
    reach("model", "google/nyx")
    with pytest.raises(OSError, match="refused google/nyx: You don't have the rights"):
        put(staged, name="google/nyx")
    assert not hub.repositories


def test_an_unreachable_hub_is_told_at_once(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(OSError, match=r"http://127.0.0.1:9 cannot be reached \(.*\). Check the network"):
        reach("model", "org/nyx")
    assert time.monotonic() - started < 3


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory) -> dict[str, Path]:
    """A model and a dataset that load, as they are uploaded."""
    base = tmp_path_factory.mktemp("folders")
    model.save_pretrained(base / "saved")
    build(base / "nyxqa", species={"train": 3, "test": 3}, triplets={"train": 4, "test": 4})
    for name in ("model", "dataset"):
        (base / name).mkdir()
    stage_model(base / "saved", "org/nyx", base / "model")
    stage_dataset(base / "nyxqa", "org/nyx", base / "dataset")
    return {"model": base / "model", "dataset": base / "dataset"}


def killed(hub, staged: Path, kind: str, name: str, what: str, count: int, home: Path) -> None:
    """Start an upload in a process of its own, and kill it when its count-th object or commit arrives."""
    hub.stall(what, count)
    command = [sys.executable, "-c", SCRIPT, str(staged), kind, name]
    process = subprocess.Popen(command, env=hub.environment(home), stderr=subprocess.PIPE)
    assert hub.stalled.wait(60), process.communicate()
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    hub.released.set()


def test_killed_uploads_do_not_load_and_go_on_to_the_same_tree(hub, folders, tmp_path):
    places = [("model", "object", 1), ("model", "commit", 1), ("model", "commit", 2)]
    places += [("dataset", "object", 3), ("dataset", "commit", 2), ("dataset", "commit", 3)]
    names = {}
    for kind, what, count in places:
        name = f"org/{what}{count}"
        killed(hub, folders[kind], kind, name, what, count, tmp_path)
        names[f"{kind}:{name}"] = (kind, name)

    def load() -> dict:
        command = [sys.executable, "-c", LOAD, *names]
        run = subprocess.run(command, env=hub.environment(tmp_path / "home"), capture_output=True, text=True)
        return json.loads(run.stdout)

    for name, answer in load().items():
        assert isinstance(answer, str), name
        assert "config.json" in answer if name.startswith("model") else "not-finished" in answer, answer
    for kind, name in names.values():
        put(folders[kind], kind, name)
        assert hub.files(kind, name) == contents(folders[kind])
    assert {type(answer) for answer in load().values()} == {int}
