"""Mining makes a folder's examples, goes on where it was stopped, and ends with the same bytes."""

import json
import shutil
from pathlib import Path

import pytest
from datasets import load_dataset

from dataset_builders.almanac import build
from dataset_builders.public_sets import PUBLIC_SETS, convert
from dataset_builders.schema import Chunk, Example, QAPair, features, read_records, write_records
from nyx_cli.main import main
from tests.conftest import text
from train_scripts import mine_negatives
from train_scripts.mine_negatives import MiningArguments, parse, run


@pytest.fixture(scope="module")
def almanac(tmp_path_factory) -> Path:
    """A small Almanac without examples, and with a question that nothing answers."""
    sizes = {"train": 12, "validation": 5, "test": 5}
    folder = build(tmp_path_factory.mktemp("nyxqa"), species=sizes, triplets={"train": 5, "validation": 5, "test": 5})
    shutil.rmtree(folder / "triplets")
    path = folder / "qa" / "train.parquet"
    lost = QAPair("lost", [text("What is lost?")], ["it"], [], None, ["nowhere"], "text")
    write_records([*read_records(QAPair, path), lost], path)
    return folder


@pytest.fixture
def folder(almanac, tmp_path) -> Path:
    return shutil.copytree(almanac, tmp_path / "nyxqa")


@pytest.fixture
def scored(monkeypatch) -> list[int]:
    """Mine in batches of 10, and note how many questions each scoring call took."""
    calls: list[int] = []
    real = mine_negatives.open_retriever

    def opened(name, corpus):
        retriever = real(name, corpus)
        score = retriever.scores
        retriever.scores = lambda queries: calls.append(len(queries)) or score(queries)
        return retriever

    monkeypatch.setattr(mine_negatives, "BATCH", 10)
    monkeypatch.setattr(mine_negatives, "open_retriever", opened)
    return calls


def test_examples_hold_gold_and_other_pages(folder):
    counts = run(MiningArguments(str(folder), depth=8, keep=3))
    examples = list(read_records(Example, folder / "triplets" / "train.parquet"))
    questions = {question.id: question for question in read_records(QAPair, folder / "qa" / "train.parquet")}
    contents = {chunk.id: chunk.content for chunk in read_records(Chunk, folder / "corpus" / "train.parquet")}
    assert [example.id for example in examples] == [name for name in questions if name != "lost"]
    for example in examples:
        gold = [contents[name] for name in questions[example.id].gold_ids]
        assert sorted(map(str, example.positives)) == sorted(map(str, gold))
        assert len(example.negatives) <= 3 and not any(negative in gold for negative in example.negatives)
    assert counts.negatives == sum(len(example.negatives) for example in examples) > len(examples)
    (dropped,) = (folder / "triplets" / "train.dropped.jsonl").read_text().splitlines()
    assert json.loads(dropped) == {"id": "lost", "reason": "no gold chunk in the corpus"}
    assert load_dataset(str(folder), "triplets", split="train", streaming=True).features == features(Example)
    assert "hard negatives, train" in (folder / "README.md").read_text()


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(folder, tmp_path, scored, monkeypatch):
    output = folder / "triplets" / "train.parquet"
    whole = run(MiningArguments(str(folder), depth=8))
    expected, batches = output.read_bytes(), list(scored)
    report = (folder / "triplets" / "train.dropped.jsonl").read_bytes()
    assert len(batches) > 4 and [path.name for path in sorted(output.parent.iterdir())] == [
        "train.dropped.jsonl",
        "train.parquet",
    ]
    shutil.rmtree(output.parent)
    real, seen = mine_negatives.write_records, []

    def stopped(records, path):
        seen.append(path)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return real(records, path)

    monkeypatch.setattr(mine_negatives, "write_records", stopped)
    scored.clear()
    with pytest.raises(KeyboardInterrupt):
        run(MiningArguments(str(folder), depth=8))
    assert not output.exists()
    (output.parent / ".train.parquet.1.partial").write_bytes(b"left by a kill")
    monkeypatch.setattr(mine_negatives, "write_records", real)
    scored.clear()
    assert str(run(MiningArguments(str(folder), depth=8))) == str(whole)
    assert output.read_bytes() == expected and scored == batches[3:]
    assert {path.name for path in output.parent.iterdir()} == {"train.dropped.jsonl", "train.parquet"}
    assert (folder / "triplets" / "train.dropped.jsonl").read_bytes() == report


def test_stopped_before_the_card_it_goes_on(folder, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mine_negatives, "write_card", stopped)
        run(MiningArguments(str(folder)))
    expected = (folder / "triplets" / "train.parquet").read_bytes()
    run(MiningArguments(str(folder)))
    assert (folder / "triplets" / "train.parquet").read_bytes() == expected
    assert "hard negatives, train" in (folder / "README.md").read_text()


def test_batches_of_another_rule_are_not_taken(folder, scored, monkeypatch):
    run(MiningArguments(str(folder), depth=6))
    expected, batches = (folder / "triplets" / "train.parquet").read_bytes(), list(scored)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk is full"):

        def full(records, path):
            if path.name == "train.parquet":
                raise OSError("disk is full")
            return write_records(records, path)

        patch.setattr(mine_negatives, "write_records", full)
        run(MiningArguments(str(folder), depth=8))
    scored.clear()
    run(MiningArguments(str(folder), depth=6))
    assert scored == batches and (folder / "triplets" / "train.parquet").read_bytes() == expected


def test_examples_that_were_not_mined_are_kept(folder):
    path = folder / "triplets" / "train.parquet"
    write_records([Example("1", [text("q")], [[text("p")]], [])], path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="holds examples that were not mined"):
        run(MiningArguments(str(folder)))
    assert path.read_bytes() == before


@pytest.mark.parametrize("split", ["dev", "../train"])
def test_unknown_splits_are_refused(split, folder, tmp_path):
    with pytest.raises(ValueError, match="Unknown split .* expected one of train, validation, test"):
        run(MiningArguments(str(folder), split=split))
    with pytest.raises(ValueError, match="Unknown split .* expected one of train, validation, test"):
        convert(PUBLIC_SETS["bamboogle"], tmp_path / "out", split, print, source="none")


def test_without_any_gold_nothing_is_written(folder):
    lost = QAPair("lost", [text("What?")], ["it"], [], None, ["nowhere"], "text")
    write_records([lost], folder / "qa" / "train.parquet")
    with pytest.raises(ValueError, match=r"No question of .*train.parquet has a gold chunk"):
        run(MiningArguments(str(folder)))
    assert not (folder / "triplets" / "train.parquet").exists()


def test_the_command_and_the_script_make_the_same(folder, capsys):
    mine_negatives.main(["--dataset", str(folder), "--depth", "20", "--skip", "10"])
    expected = (folder / "triplets" / "train.parquet").read_bytes()
    with pytest.raises(SystemExit) as end:
        main(["mine", str(folder), "--with", "bm25", "--depth", "20", "--skip", "10"])
    assert end.value.code == 0 and "examples with" in capsys.readouterr().out
    assert (folder / "triplets" / "train.parquet").read_bytes() == expected


def test_recipes_make_rules():
    recipe = str(Path(mine_negatives.__file__).parent / "recipes" / "paper" / "negatives.yaml")
    rule = parse(["--dataset", "any", "--config", recipe]).rule()
    assert (rule.depth, rule.skip, rule.keep) == (10, 0, 5)
    assert parse(["--dataset", "any"]).retriever == "bm25"
