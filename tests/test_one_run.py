"""One run at a time writes a dataset folder, and what a killed one left half written is gone."""

import subprocess
import sys

import pytest

from dataset_builders.one_run import one_run
from nyx_cli.main import main
from tests.scripted_server import ScriptedServer, said

HOLDS = """
import sys, time
from pathlib import Path
from dataset_builders.one_run import one_run
with one_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    child = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()


def test_a_second_run_is_refused_until_the_first_is_over(other, tmp_path):
    with pytest.raises(ValueError, match="Another run is at work in"), one_run(tmp_path):
        pass
    other.kill()
    other.wait()
    with one_run(tmp_path):
        pass


def test_steps_of_one_run_hold_it_together(tmp_path):
    (tmp_path / "qa").mkdir()
    left = tmp_path / "qa" / ".pairs.123.partial"
    left.touch()
    with one_run(tmp_path):
        assert not left.exists()
        left.touch()
        with one_run(tmp_path / "qa" / ".."):
            assert left.exists(), "the outer step may be writing it"


def test_no_folder_is_made_of_a_wrong_name(tmp_path):
    with pytest.raises(ValueError, match="no dataset folder"), one_run(tmp_path / "none"):
        pass
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["build-qa", "mine", "feedback"])
def test_the_commands_refuse_in_one_line(command, other, tmp_path, capsys):
    options = {
        "build-qa": [str(tmp_path), "-o", str(tmp_path)],
        "mine": [str(tmp_path)],
        "feedback": [str(tmp_path), "--retriever", "x"],
    }
    with ScriptedServer(lambda body, before: said("x")) as server, pytest.raises(SystemExit) as end:
        reader = [] if command == "mine" else ["--reader", server.url]
        main([command, *options[command], *reader])
    assert end.value.code == 2 and "Another run is at work in" in capsys.readouterr().err
