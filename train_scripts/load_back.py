"""Load a folder as others will, in a process of its own: by the public libraries, offline.

python -m train_scripts.load_back model FOLDER
python -m train_scripts.load_back dataset FOLDER
python -m train_scripts.load_back space FOLDER
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import Features, load_dataset
from transformers import AutoModel

from dataset_builders.card import DEFAULT, RECORDS, data_files
from nyx.records import features

BROUGHT = ("dataset_builders", "nyx", "modeling_nyx")


def load_back(kind: str, folder: Path) -> None:
    """Start the process. Raises `ValueError` with its error if the folder doesn't load, or isn't what it says."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"HF_HOME": home, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        command = [sys.executable, "-m", "train_scripts.load_back", kind, str(folder)]
        run = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True)
    if run.returncode != 0:
        words = run.stdout or run.stderr.strip().rpartition("\n")[2]
        raise ValueError(f"The {kind} does not load back: {' '.join(words.split())[:500]}")


def model(folder: Path) -> None:
    """Embed a text by the code that lies in the folder."""
    encoder = AutoModel.from_pretrained(folder, trust_remote_code=True)
    (vector,) = encoder.encode_queries(["Where does this moth live?"])
    expected, norm = (encoder.config.text_config.hidden_size,), float(np.linalg.norm(vector))
    if vector.shape != expected or not abs(norm - 1) < 1e-3:
        raise ValueError(f"an embedding of shape {vector.shape} and norm {norm}; expected {expected} and 1.")


def dataset(folder: Path) -> None:
    """Read every row of every config, and the questions without a config's name."""
    first = load_dataset(str(folder), streaming=True)
    if {stream.info.config_name for stream in first.values()} != {DEFAULT}:
        raise ValueError(f"without a name came another config than {DEFAULT}.")
    for config, splits in data_files(folder).items():
        for split, path in splits.items():
            columns, expected = pq.read_schema(path), features(RECORDS[config])
            if Features.from_arrow_schema(columns) != expected:
                raise ValueError(f"{config}/{split} has the columns {columns.names}; expected {expected}.")
            stream = load_dataset(str(folder), config, split=split, streaming=True)
            rows = sum(len(batch) for batch in stream.with_format("arrow").iter(1000))
            if rows != pq.read_metadata(path).num_rows:
                raise ValueError(f"{rows} rows of {config}/{split} came; expected {pq.read_metadata(path).num_rows}.")


def space(folder: Path) -> None:
    """Let the demo import what it needs, all of it from the folder."""
    code = f"import app, {', '.join(BROUGHT)}\nfor each in (app, {', '.join(BROUGHT)}): print(each.__file__)"
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    if run.returncode != 0:
        raise ValueError(run.stderr.strip().rpartition("\n")[2])
    if outside := [path for path in run.stdout.split() if not Path(path).is_relative_to(folder.resolve())]:
        raise ValueError(f"the demo imports {outside}, which it does not bring.")


if __name__ == "__main__":
    code = 0
    try:
        {"model": model, "dataset": dataset, "space": space}[sys.argv[1]](Path(sys.argv[2]))
    except Exception as error:  # whatever a library says of a broken file
        sys.stdout.write(f"{type(error).__name__}: {error}")
        code = 1
    sys.stdout.flush()
    os._exit(code)  # at Python's own end, threads that Arrow's streams leave abort 1 process in 24 (arrow issue 45214)
