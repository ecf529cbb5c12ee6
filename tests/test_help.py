"""Every command says what it does by examples, and each runs as it stands, on a small Almanac."""

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builders.almanac import TINY_VLM, build, write_pages
from dataset_builders.schema import Chunk, read_records
from modeling_nyx import NyxModel
from nyx.engines import Request
from nyx.index import Index
from nyx.local_engine import LocalEngine
from nyx.models import fingerprint
from nyx.reader import INSTRUCTION
from nyx_cli.main import COMMANDS, load, main
from tests.conftest import free_port
from tests.public_rows import HOTPOT, HUMAN
from tests.scripted_reader import script
from tests.scripted_server import Reply, ScriptedServer, said
from train_scripts import stage1

ROOT = Path(__file__).parents[1]
# In this order, because what one leaves the next reads.
ORDER = (
    "ingest index search ask serve build-qa audit-qa mine convert benchmark feedback train evaluate report publish "
    "demo"
).split()
# They stream from the Hub.
ELSEWHERE = ("HuggingFaceM4/OBELICS", "convert mmeb", "benchmark musique")
# What makes a run short.
SHORT = {"train": "--max_steps=2 --warmup_steps=0 --per_device_train_batch_size=8 --eval_steps=2 --save_steps=2"}


EXTRAS = "accelerate bm25s datasketch deepspeed faiss gradio lxml matplotlib mteb peft pypdfium2 trl".split()
WITHOUT_EXTRAS = f"""
import sys
from importlib.machinery import PathFinder

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {EXTRAS} else PathFinder.find_spec(name, path, target)

sys.meta_path = [Installed if each is PathFinder else each for each in sys.meta_path]
from nyx_cli.main import main
for words in ["search --help", "index --help", "ask --help", "demo", "train stage1", "feedback x -m y -r z", "serve"]:
    try:
        main(words.split())
    except SystemExit as end:
        sys.stderr.write(f"{{words}}: {{end.code}}\\n")
"""


def examples(name: str) -> list[str]:
    """Return the commands that a command's help shows."""
    words = inspect.getdoc(load(name).callback) or ""
    return [line.strip() for line in words.splitlines() if re.match(r"\s*nyx [a-z-]+($| )", line)]


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    """A server behind which the Almanac's reader answers; what it cannot do, make questions, a script does."""
    reader, turn = LocalEngine.load(TINY_VLM), Lock()

    def reply(body: dict, before: int) -> Reply:
        system, user = (message["content"] for message in body["messages"])
        words = "".join(item.get("text", "") for item in user)
        if not system.startswith(INSTRUCTION) or '"' in words:
            return said(script(system, words, misbehave=False))
        content = [item if item["type"] == "text" else {"type": "image", **item["image_url"]} for item in user]
        with turn:
            [(_, answer)] = reader.answer([Request(system, content)])
        return said(answer)

    with ScriptedServer(reply) as running:
        yield running


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder as a checkout is after `make demo`, of a small world and an untrained retriever."""
    folder = tmp_path_factory.mktemp("world")
    demo = folder / "runs" / "demo"
    sizes = {"train": 12, "validation": 4, "test": 4}
    dataset = build(demo / "nyxqa", species=sizes, triplets=dict.fromkeys(sizes, 30))
    model = NyxModel.from_pretrained(TINY_VLM)
    model.config.matryoshka_dimensions = [128, 64, 32, 16]
    for name in ("stage1", "stage2", "apart"):
        model.save_pretrained(demo / name)
    chunks = list(read_records(Chunk, dataset / "corpus" / "test.parquet"))
    write_pages(chunks, demo / "almanac")
    vectors = model.encode_documents([chunk.content for chunk in chunks])
    made = {"model_name": "runs/demo/stage2", "revision": fingerprint(demo / "stage2")}
    Index.create(demo / "index", chunks, vectors, **made)
    shutil.copy(next((demo / "almanac").glob("*.jpg")), folder / "moth.jpg")
    for name in ("dataset_builders", "space"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "hotpot.jsonl").write_text(json.dumps(HOTPOT) + "\n")
    pq.write_table(pa.Table.from_pylist([HUMAN]), folder / "qa.parquet")
    (folder / "questions.jsonl").write_text(json.dumps({"question": "Where?", "answers": ["moor"]}) + "\n")
    pq.write_table(pa.table({"texts": [["A moth.", None]], "images": [[None, None]]}), folder / "obelics.parquet")
    return folder


@pytest.fixture
def here(world, monkeypatch, tmp_path) -> Path:
    monkeypatch.chdir(world)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("nyx.server_engine.time.sleep", lambda seconds: None)
    return world


def arguments(example: str, server: ScriptedServer) -> list[str]:
    """Split an example; what it names of the Hub and of other machines has something here that stands in for it."""
    command, *rest = shlex.split(example)[1:]
    stands_in = {
        "http://localhost:8000/v1": server.url,
        "Qwen/Qwen2.5-VL-3B-Instruct": str(TINY_VLM),
        "Qwen/Qwen2.5-VL-7B-Instruct": server.url,
        "org/vlm": str(TINY_VLM),
    } | ({} if command == "publish" else {"org/nyx": "runs/demo/stage1"})
    return [command, *(stands_in.get(each, each) for each in rest), *SHORT.get(command, "").split()]


@pytest.mark.parametrize("name", [name for name in ORDER if name != "serve"])
def test_each_example_runs(name, here, server, hub, capsys):
    if name == "demo":
        shutil.copytree(here / "runs" / "demo", here / "runs" / "other", dirs_exist_ok=True)
    shown = examples(name)
    ran = [example for example in shown if not any(each in example for each in ELSEWHERE)]
    assert shown and len(ran) >= min(2, len(shown)) - (name == "mine")
    for example in ran:
        assert _status(arguments(example, server)) == 0, example
        assert capsys.readouterr().out


def _status(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        main(argv)
    return end.value.code


@pytest.mark.parametrize("example", examples("serve"))
def test_the_page_is_served(example, here, server):
    port = str(free_port())
    _, *given = arguments(re.sub(r" --port \d+", "", example), server)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NYX_")}
    command = [str(Path(sys.executable).parent / "nyx"), "serve", *given, "--port", port]
    with (here / "serve.log").open("w") as log:
        process = subprocess.Popen(command, env=environment | {"HF_HUB_OFFLINE": "1"}, stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert process.poll() is None, (here / "serve.log").read_text()
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/config").status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.2)
        assert "12 pages" not in (here / "serve.log").read_text()
        assert "pages, runs/demo/stage2; reader: almanac_vlm" in (here / "serve.log").read_text()
    finally:
        process.kill()
        process.wait()


def test_every_command_is_tried():
    assert set(ORDER) == set(COMMANDS)
    for name in COMMANDS:
        assert all(example.startswith(f"nyx {name}") for example in examples(name)) and examples(name)


def test_the_list_says_of_every_command_what_it_says_of_itself(capsys):
    for name, summary in COMMANDS.items():
        words = inspect.getdoc(load(name).callback) or ""
        assert " ".join(words.split("\n\n")[0].split()) == summary
    assert _status(["--help"]) == 0
    listed = re.findall(r"^│ ([a-z][a-z-]*) {2,}", capsys.readouterr().out, re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("argv", [["--help"], ["ingest", "--help"], ["convert", "--help"]])
def test_what_needs_no_model_does_not_wait_for_torch(argv):
    code = f"import sys; from nyx_cli.main import main\ntry: main({argv})\nfinally: print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: nyx" in run.stdout and "torch" not in run.stdout.split()


def test_help_shows_them(capsys):
    for name in COMMANDS:
        assert _status([name, "--help"]) == 0
        told = re.sub(r"[\s│]", "", capsys.readouterr().out)
        assert all(re.sub(r"\s", "", example) in told for example in examples(name)), name


def test_the_readmes_commands_are_those_of_help(monkeypatch):
    monkeypatch.chdir(ROOT)
    # What is inside $(…) is another program's.
    text = re.sub(r"\$\(.*?\)", "", (ROOT / "README.md").read_text())
    named = re.findall(r"(?:^|`)nyx ([a-z][a-z-]*)((?: [^`#\n]*)?)", text, re.MULTILINE)
    assert {"serve", "ingest", "index", "search", "ask", "evaluate", "publish"} <= {name for name, _ in named}
    for name, rest in named:
        if name == "train":  # its options are the recipe's
            stage, *words = rest.split()
            stage1.parse([*words, "--bf16", "false"], stage)  # which no CPU can
            continue
        options = {option for each in load(name).params for option in each.opts}
        given = {part for part in re.split(r"[ =]", rest) if re.fullmatch(r"--?[a-z][a-z-]*", part)}
        assert given <= options, name


def test_results_are_json_on_request(here, server, capsys):
    write = ["ingest", "runs/demo/almanac", "-o", "j.parquet", "--json"]
    for argv, keys in (
        (write, {"pages", "chunks", "pictures", "left_out", "output"}),
        (["index", "j.parquet", "-o", "j", "-m", "runs/demo/stage2", "--json"], {"embedded", "were_there"}),
        (["search", "j", "--image", "moth.jpg", "-k", "1", "--json"], {"id", "score", "source", "text", "pictures"}),
        (["ask", "j", "Where?", "-r", str(TINY_VLM), "--json"], {"answer", "documents"}),
        (["evaluate", "runs/demo/nyxqa", "-m", "bm25", "--json"], {"tables"}),
        (["report", "runs/evaluation", "--json"], {"written"}),
        (["publish", "space", "space", "org/nyx", "--dry-run", "--json"], {"address"}),
    ):
        assert _status(argv) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert keys <= json.loads(line).keys(), argv


def test_search_shows_pictures_by_their_thumbnails(here, capsys):
    assert _status(["search", "runs/demo/index", "--image", "moth.jpg", "What is this?"]) == 0
    told = capsys.readouterr().out
    paths = [Path(each) for each in re.findall(r"\[\d\] (/.*\.jpg)", told)]
    assert paths and all(path.is_file() for path in paths)
    assert told.count("Score") == 5


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["serach"], "No such command 'serach'"),
        (["search"], "Missing argument"),
        (
            ["search", "runs/demo/index", "x", "-k", "0"],
            "Input should be greater than or equal to 1 See nyx search --help.",
        ),
        (["search", "runs/demo/index", "x", "--dim", "129"], "dim is 129; expected 1 to 128"),
        (["search", "runs/demo/index", "--image", "none.jpg"], "No such picture file"),
        (["ask", "runs/demo/index", "x"], "Missing option '--reader'"),
        (["ask", "runs/demo/index", "x", "--reader", "http://127.0.0.1:9/v1"], "cannot be reached"),
        (["evaluate", "nowhere", "--model", "bm25"], "nowhere"),
        (["train", "stage3"], "'stage3' is not one of 'stage1', 'stage2'"),
        (["train", "stage1", "--dataset", "nowhere"], "No examples at nowhere"),
        (["serve", "nowhere"], "nowhere holds no index"),
    ],
)
def test_mistakes_are_one_line_and_status_2(argv, message, here, capsys, monkeypatch):
    monkeypatch.setattr("nyx.server_engine.time.sleep", lambda seconds: None)
    assert _status(argv) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and message in lines[0] and "Traceback" not in error
    assert error.splitlines()[-1] == lines[0]


def test_debug_shows_where_an_error_came_from(here):
    with pytest.raises(ValueError, match="holds no index"):
        main(["--debug", "search", "nowhere", "x"])


def test_shells_can_complete(here):
    command = [str(Path(sys.executable).parent / "nyx")]
    asked = {"_NYX_COMPLETE": "complete_bash", "COMP_WORDS": "nyx aud", "COMP_CWORD": "1"}
    run = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True)
    assert run.stdout.split() == ["audit-qa"]


def test_without_extras_commands_work_or_say_what_to_install():
    run = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], capture_output=True, text=True, timeout=120)
    assert re.findall(r"^(?:Error: |\w+.*: \d$).*", run.stderr, re.MULTILINE) == [
        "search --help: 0",
        "index --help: 0",
        "ask --help: 0",
        "Error: BM25 needs bm25s: pip install 'nyx-retriever[data]'",
        "demo: 2",
        "Error: This needs accelerate: pip install 'nyx-retriever[train]'",
        "train stage1: 2",
        "Error: This needs accelerate: pip install 'nyx-retriever[train]'",
        "feedback x -m y -r z: 2",
        "Error: This needs gradio: pip install 'nyx-retriever[space]'",
        "serve: 2",
    ], run.stderr[-2000:]
