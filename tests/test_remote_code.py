"""A saved folder loads elsewhere with nothing of this project installed, and embeds to the same vectors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_nyx", "nyx", "dataset_builders", "train_scripts"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
contents = json.loads(sys.argv[2])
ids = processor.pack(contents, "query")["input_ids"][0].tolist()
vectors = {"query": model.encode_queries(contents).tolist(), "document": model.encode_documents(contents).tolist()}
print(json.dumps({"class": type(model).__name__, "ids": ids, **vectors}))
"""


def test_loads_in_an_empty_folder(model, processor, tmp_path):
    saved, empty = tmp_path / "saved", tmp_path / "empty"
    empty.mkdir()
    model.save_pretrained(saved)
    image = Path(tmp_path / "moth.png")
    from tests.conftest import colored

    colored(84, 56, 1).save(image)
    contents = [
        [{"type": "text", "text": "Where does it live?"}],
        [{"type": "image", "image": str(image)}, {"type": "text", "text": "What is this?"}],
    ]
    environment = {
        **os.environ,
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "PYTHONPATH": "",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-P", "-c", SCRIPT, str(saved), json.dumps(contents)]
    run = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    loaded = json.loads(run.stdout.splitlines()[-1])
    assert loaded["class"] == "NyxModel"
    assert loaded["ids"] == processor.pack(contents, "query")["input_ids"][0].tolist()
    assert np.abs(np.array(loaded["query"]) - model.encode_queries(contents)).max() < 1e-6
    assert np.abs(np.array(loaded["document"]) - model.encode_documents(contents)).max() < 1e-6
