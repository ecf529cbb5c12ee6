"""What the README and the card say is what happens: their code runs, their tables are the benchmark's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tables
from dataset_builders.almanac import write_pages
from dataset_builders.almanac_guide import field_guide
from modeling_nyx import NyxModel

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "MODEL_CARD.md"]


@pytest.fixture(scope="module")
def folder(model: NyxModel, tmp_path_factory) -> Path:
    """A folder as it is after `make demo`."""
    folder = tmp_path_factory.mktemp("docs")
    model.save_pretrained(folder / "runs" / "demo" / "stage2")
    chunks, _ = field_guide("test", 3, seed=0)
    write_pages(chunks, folder / "runs" / "demo" / "almanac")
    (folder / "dataset_builders").symlink_to(ROOT / "dataset_builders")
    return folder


@pytest.mark.parametrize("name", DOCUMENTS)
def test_python_examples_run(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    examples = [block for block in blocks if "gradio_client" not in block]  # that one runs beside the page
    assert examples
    for example in examples:
        variables: dict = {}
        exec(compile(example, name, "exec"), variables)
        assert np.allclose(np.linalg.norm(variables["documents"], axis=1), 1, atol=1e-5)
    assert capsys.readouterr().out


def test_commands_from_pages_to_a_search_run(folder):
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (commands,) = [block for block in blocks if "nyx ingest" in block]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run = subprocess.run(["bash", "-ec", commands], cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Score" in run.stdout and "Answer: " in run.stdout and (folder / "index" / "manifest.json").exists()


@pytest.mark.parametrize("path", tables.documents(), ids=str)
def test_tables_are_the_benchmarks(path):
    text = path.read_text()
    assert tables.filled(path, tables.read_results()) == text and "<!-- /" in text


@pytest.mark.parametrize("name", [*DOCUMENTS, "dataset_builders/almanac_vlm/README.md"])
def test_links_and_paths_exist(name):
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / name).parent / target).exists(), target
    for path in re.findall(r"(?:train_scripts|dataset_builders|benchmarks)/[\w/]+\.py", text):
        assert (ROOT / path).exists(), path


def test_make_targets_in_readme_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make (\w+)", (ROOT / "README.md").read_text())) <= targets
