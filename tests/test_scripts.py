"""The scripts say how to start, and the user's mistakes end in one line."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_script(monkeypatch, script, *arguments):
    """Run a script as `python train_scripts/SCRIPT.py` would, in this process; returns its exit status."""
    path = ROOT / "train_scripts" / f"{script}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    return end.value.code


@pytest.mark.parametrize("script", ["stage1", "stage2", "collect_feedback", "train_reader", "demo", "apart"])
def test_help_shows_how_to_start(script, monkeypatch, capsys):
    assert run_script(monkeypatch, script, "--help") == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("script", ["stage1", "stage2", "collect_feedback"])
def test_mistakes_end_in_one_line(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_script(monkeypatch, script, "--dataset", str(tmp_path / "nowhere")) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and "Error: " in said.splitlines()[-1]
