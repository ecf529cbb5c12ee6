"""A run's record names its commit and no place of this machine."""

import subprocess

import pytest

from nyx.models import shown
from train_scripts import provenance
from train_scripts.provenance import commit, refuse_another_run, write_record


def test_the_commit_is_that_of_the_checkout_the_code_is_in(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    here = tmp_path / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(here))
    here.write_text("a")
    results = tmp_path / "benchmarks" / "results" / "a.json"
    results.parent.mkdir(parents=True)
    results.write_text("1")
    assert commit() is None
    git("init")
    git("commit", "--allow-empty", "-m", "another project")
    assert commit() is None
    git("add", ".")
    git("commit", "-m", "this one")
    head = git("rev-parse", "HEAD").stdout.strip()
    assert commit() == head
    results.write_text("2")
    assert commit() == head
    here.write_text("b")
    assert commit() == f"{head}-dirty"


def test_folders_are_named_without_their_place(tmp_path):
    assert shown(tmp_path / "stage1") == "stage1"
    assert shown("runs/demo/stage1") == "runs/demo/stage1" and shown("Qwen/Qwen2.5-VL-3B") == "Qwen/Qwen2.5-VL-3B"


def about(**hashes):
    return {"stage": "stage 1", "start": {}, "dataset": {"name": "nyxqa", "sha256": hashes}, "arguments": {}}


def test_other_processes_make_another_run(tmp_path):
    write_record(tmp_path, about() | {"processes": 8})
    refuse_another_run(tmp_path, about() | {"processes": 8})
    with pytest.raises(ValueError, match="of another run: processes were 8, are 4"):
        refuse_another_run(tmp_path, about() | {"processes": 4})


def test_a_dataset_may_have_grown_since(tmp_path):
    write_record(tmp_path, about(qa="1", triplets="2"))
    refuse_another_run(tmp_path, about(qa="1", triplets="2", feedback="3"))
    for other in (about(qa="1", triplets="3"), about(qa="1")):
        with pytest.raises(ValueError, match="of another run: dataset"):
            refuse_another_run(tmp_path, other)
