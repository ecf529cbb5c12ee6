"""`nyx publish` against a Hub on this machine; what is published is then used by its name, in new processes."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from gradio_client import Client
from huggingface_hub import constants

from dataset_builders.almanac import build
from dataset_builders.schema import Chunk, QAPair, read_records
from modeling_nyx import NyxModel
from nyx_cli.main import main
from tests.hub import serve
from train_scripts import stage1
from train_scripts.load_back import load_back
from train_scripts.publish import publish

ROOT = Path(__file__).parents[1]
TEXT = "Where does the moth Vela mirabilis live?"
STEPS = "--max_steps 2 --warmup_steps 0 --eval_steps 1 --save_steps 1 --logging_steps 1".split()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    sizes = {"train": 6, "validation": 3, "test": 3}
    return build(tmp_path_factory.mktemp("data") / "nyxqa", species=sizes, triplets=dict.fromkeys(sizes, 12))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> Path:
    """A checkpoint as training leaves it, with everything that lies around."""
    output = tmp_path_factory.mktemp("runs") / "stage1"
    batch = ["--per_device_train_batch_size", "6", "--temperature", "0.07"]
    stage1.main(["--dataset", str(dataset), "--output_dir", str(output), *STEPS, *batch])
    (output / "notes.bin").write_bytes(b"a pickle, perhaps")
    report = {
        "rows": [{"retriever": "bm25", "recall@1": 0.25, "recall@5": 0.5, "mrr": 0.375, "answer_em": 0.125}],
        "dimensions": [{"dim": 16, "recall@1": 0.0625, "recall@5": 0.1875}],
    }
    (output / "report.json").write_text(json.dumps(report))
    return output


@pytest.fixture(scope="module")
def published(trained, dataset, tmp_path_factory):
    """A Hub with org/nyx and org/nyxqa on it, put there by the command."""
    with serve() as hub:
        home = tmp_path_factory.mktemp("publisher")
        for kind, folder, name in (("model", trained, "org/nyx"), ("dataset", dataset, "org/nyxqa")):
            command = [Path(sys.executable).parent / "nyx", "publish", kind, folder, name]
            run = subprocess.run(map(str, command), env=hub.environment(home), capture_output=True, text=True)
            assert run.returncode == 0, run.stderr[-2000:]
            assert run.stdout.splitlines()[-1].startswith(f"{hub.url}/")
        yield hub


def run_elsewhere(hub, tmp_path: Path, code: str) -> list:
    """Run code with nothing in the cache, no token, and none of this project to import but what the Hub gives."""
    hidden = ("modeling_nyx", "nyx", "dataset_builders", "evaluation", "train_scripts")
    lines = [
        "import sys, json",
        "class Absent:",
        "    def find_spec(self, name, path=None, target=None):",
        f"        if name.split('.')[0] in {hidden}: raise ModuleNotFoundError(name)",
        "sys.meta_path.insert(0, Absent())",
        code,
    ]
    environment = hub.environment(tmp_path / "home", token=None)
    command = [sys.executable, "-P", "-c", "\n".join(lines)]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_the_model_loads_by_its_name(published, trained, tmp_path):
    code = f"""
from transformers import AutoModel
model = AutoModel.from_pretrained("org/nyx", trust_remote_code=True)
print(json.dumps(model.encode_queries([{TEXT!r}]).tolist()))
"""
    here = NyxModel.from_pretrained(trained).encode_queries([TEXT])
    assert np.abs(np.array(run_elsewhere(published, tmp_path, code)) - here).max() < 1e-6


def test_the_dataset_loads_by_its_name(published, dataset, tmp_path):
    code = """
import os
from datasets import load_dataset
qa = load_dataset("org/nyxqa")
corpus = load_dataset("org/nyxqa", "corpus", split="test", streaming=True)
pictures = [item["image"].size for row in corpus for item in row["content"] if item["image"]]
print(json.dumps([{split: rows["id"][:] for split, rows in qa.items()}, pictures]), flush=True)
os._exit(0)  # not by Python's end, as in train_scripts.load_back: pyarrow's bug isn't what is tested
"""
    ids, pictures = run_elsewhere(published, tmp_path, code)
    for split in ("train", "validation", "test"):
        assert ids[split] == [pair.id for pair in read_records(QAPair, dataset / "qa" / f"{split}.parquet")]
    assert len(pictures) > 3 and all(side >= 28 for size in pictures for side in size)


def test_sentence_transformers_load_it_by_its_name(published, trained, tmp_path):
    code = f"""
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("org/nyx", trust_remote_code=True)
print(json.dumps(model.encode_query([{TEXT!r}]).tolist()))
"""
    here = NyxModel.from_pretrained(trained).encode_queries([TEXT])
    assert np.abs(np.array(run_elsewhere(published, tmp_path, code)) - here).max() < 1e-5


def test_the_demo_searches_what_was_published(published, dataset, tmp_path):
    """Of the clone only `space` and the installed `nyx` take part; model and corpus come from the Hub."""
    port = free_port()
    environment = published.environment(tmp_path / "home", token=None)
    environment |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(tmp_path / "gradio")}
    command = [sys.executable, ROOT / "space" / "app.py", "--model", "org/nyx", "--dataset", "org/nyxqa"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(map(str, command), cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/config", process)
        client = Client(f"http://127.0.0.1:{port}", verbose=False, download_files=str(tmp_path))
        (hit,) = client.predict(text=TEXT, k=1, api_name="/search")
    finally:
        process.kill()
        process.wait()
    (chunk,) = [each for each in read_records(Chunk, dataset / "corpus" / "test.parquet") if each.id == hit["id"]]
    assert hit["source"] == chunk.source
    assert [item["type"] for item in hit["content"]] == [item["type"] for item in chunk.content]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(address: str, process: subprocess.Popen) -> None:
    for _ in range(300):
        assert process.poll() is None, "the demo ended"
        with suppress(httpx.TransportError):
            if httpx.get(address).status_code == 200:
                return
        time.sleep(0.3)
    raise TimeoutError(address)


def test_a_space_brings_what_it_imports(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("NYX_MODEL", "org/nyx")
    publish("space", ROOT / "space", "org/nyx-demo")
    files = hub.files("space", "org/nyx-demo")
    brought = {"nyx/index.py", "modeling_nyx/modeling_nyx.py", "dataset_builders/pdf.py"}
    assert {path.name for path in (ROOT / "space").iterdir() if path.is_file()} | brought <= set(files)
    header = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert header["models"] == ["org/nyx"] and header["datasets"] == []
    assert header["thumbnail"].endswith("/spaces/org/nyx-demo/resolve/main/thumbnail.jpg")
    (tmp_path / "app.py").write_text("import nyx.absent")
    shutil.copy(ROOT / "space" / "README.md", tmp_path)
    with pytest.raises(ValueError, match="does not load back: .*No module named 'nyx.absent'"):
        publish("space", tmp_path, "org/other")
    (tmp_path / "README.md").write_text("no header")
    with pytest.raises(ValueError, match="is no Space: expected app.py, and README.md with `sdk: gradio`"):
        publish("space", tmp_path, "org/other")


def test_only_what_loaders_need_is_there(published, trained, dataset):
    model, data = (set(published.files(*each)) for each in (("model", "org/nyx"), ("dataset", "org/nyxqa")))
    left_out = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()} - model
    assert "notes.bin" in left_out and all(each == "notes.bin" or each.startswith("checkpoint") for each in left_out)
    splits = {f"{name}/{split}.parquet" for name in ("corpus", "qa", "triplets") for split in ("train", "test")}
    assert splits < data and not any(each.endswith((".sqlite", ".jsonl")) for each in data)
    together = b"".join(
        [*published.files("dataset", "org/nyxqa").values(), *published.files("model", "org/nyx").values()]
    )
    assert str(trained.parent).encode() not in together and str(dataset.parent).encode() not in together


def test_the_model_card_says_what_ran(published, trained):
    card = published.files("model", "org/nyx")["README.md"].decode()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["library_name"] == "transformers" and "base_model" not in header
    training = json.loads((trained / "training.json").read_text())
    for fact in ("| `temperature` | `0.07` |", "| `per_device_train_batch_size` | `6` |", training["hardware"]):
        assert fact in card
    for sha256 in training["dataset"]["sha256"].values():
        assert sha256 in card and sha256 in published.files("dataset", "org/nyxqa")["README.md"].decode()
    curve = json.loads((trained / "curve.json").read_text())
    losses = {row["step"]: row["loss"] for row in curve if "loss" in row}
    for row in curve:
        if "eval_recall@1" in row:
            loss = f"{losses[row['step']]:.3f}" if row["step"] else "–"
            assert f"| {row['step']} | {loss} | {row['eval_recall@1']:.3f} | {row['eval_recall@5']:.3f} |" in card
    assert "| bm25 | 0.250 | 0.500 | 0.375 | 0.125 |" in card and "| 16 | 0.062 | 0.188 |" in card
    assert 'AutoModel.from_pretrained("org/nyx", trust_remote_code=True)' in card
    # Tables are whole: every row has as many cells as its head.
    for table in re.findall(r"(?:^\|.*\|\n)+", card, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_the_cards_code_runs(published, tmp_path):
    (example,) = re.findall(
        r"```python\n(.*?)```", published.files("dataset", "org/nyxqa")["README.md"].decode(), re.S
    )
    first = run_elsewhere(published, tmp_path, example + '\nprint(json.dumps(next(iter(as_bytes))["id"]))')
    assert re.fullmatch("[0-9a-f]{24}", first)


def test_a_dry_run_needs_no_hub(dataset, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["publish", "dataset", str(dataset), "org/nyxqa", "--dry-run"])
    told = capsys.readouterr().out
    assert end.value.code == 0 and "qa/train.parquet" in told and 'load_dataset("org/nyxqa")' in told


@pytest.fixture
def bad(tmp_path, model) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def unfinished(folder: Path) -> None:
    about = {"stage": "stage 1", "start": {"name": "a", "sha256": "b"}, "arguments": {}}
    (folder / "training.json").write_text(json.dumps(about))


def edit(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is no model: expected config.json and"),
        (lambda folder: (folder / "config.json").unlink(), "is no model: expected config.json and"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is no model: expected config.json and"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is broken"),
        (lambda folder: edit(folder, model_type="bert"), "holds a bert without Nyx's code"),
        (lambda folder: edit(folder, auto_map=None), "holds a qwen2_5_vl without Nyx's code"),
        (lambda folder: unfinished(folder), "The run in .* has not ended"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"{}" * 50), "does not load back"),
        (lambda folder: (folder / "modeling_nyx.py").unlink(), "does not load back"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(spoil, message, bad, hub):
    spoil(bad)
    with pytest.raises(ValueError, match=message):
        publish("model", bad, "org/nyx")
    assert not hub.repositories


def test_a_damaged_dataset_is_refused(dataset, tmp_path, hub):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    whole = (copy / "triplets" / "test.parquet").read_bytes()
    quarter = len(whole) // 4  # much of it: a few bytes may lie within a picture, and only change it
    damaged = whole[:quarter] + bytes(2 * quarter) + whole[3 * quarter :]
    (copy / "triplets" / "test.parquet").write_bytes(damaged)
    with pytest.raises(ValueError, match="The dataset does not load back"):
        publish("dataset", copy, "org/nyxqa")
    shutil.copy(copy / "qa" / "test.parquet", copy / "corpus" / "test.parquet")
    with pytest.raises(ValueError, match=r"corpus/test has the columns \['id', 'question'.*expected"):
        load_back("dataset", copy)
    with pytest.raises(ValueError, match="is no NyxQA folder"):
        publish("dataset", tmp_path / "copy" / "qa", "org/nyxqa")
    assert not hub.repositories


def test_links_out_of_the_folder_are_refused(dataset, tmp_path, hub):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / "qa" / "test.parquet").unlink()
    (copy / "qa" / "test.parquet").symlink_to(dataset / "qa" / "test.parquet")
    with pytest.raises(ValueError, match="is a link that leads out of"):
        publish("dataset", copy, "org/nyxqa")
    assert not hub.repositories


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        ("nyxqa", "hf_any", "is no name of a repository; expected org/name."),
        ("org/nyxqa", "", "There is no token for the Hub"),
        ("org/nyxqa", "hf_any", "http://127.0.0.1:9 cannot be reached"),
    ],
)
def test_errors_are_one_line(name, token, message, dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SystemExit) as end:
        main(["publish", "dataset", str(dataset), name])
    told = capsys.readouterr()
    (line,) = told.err.strip().splitlines()
    assert end.value.code == 2 and told.out == "" and line.startswith("Error: ") and message in line
