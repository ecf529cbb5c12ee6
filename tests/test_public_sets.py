"""Public sets are streamed into a dataset folder: by repository layout or file, whole or not at all."""

import gzip
import io
import json
from pathlib import Path

import pytest
from datasets import Dataset, Features, Image, List, Value, load_dataset

from dataset_builders.public_sets import PUBLIC_SETS, PublicSet, convert, read_rows, to_records
from dataset_builders.schema import Chunk, Example, QAPair, features, read_records
from modeling_nyx import load_image
from modeling_nyx.content_nyx import text_of
from nyx.bm25 import BM25
from nyx.metrics import accuracy
from nyx_cli.main import main
from tests.conftest import colored
from tests.public_rows import (
    BAMBOOGLE,
    HOTPOT,
    HUMAN,
    MME5,
    MMQA_IMAGE,
    MMQA_QUESTION,
    MMQA_TABLE,
    MMQA_TEXT,
    MUSIQUE,
    NYX_T2T,
    SCIENCE_QA,
    TWO_WIKI,
)

SHARED = Path(__file__).parents[2] / "shared" / "data"
MULTIHOP = SHARED / "multihop-text"
needs_multihop = pytest.mark.skipif(not MULTIHOP.is_dir(), reason="needs ../shared/data/multihop-text")
needs_textbooks = pytest.mark.skipif(
    not (SHARED / "openstax-physical").is_dir(), reason="needs ../shared/data/openstax-physical"
)
_NAMES = List(Value("string"))
TYPES = {
    "nyx-t2t": Features(
        dict.fromkeys(NYX_T2T, _NAMES)
        | {"qry": Value("string"), "pos_text": Value("string"), "neg_image_path": List(_NAMES)}
    ),
    "scienceqa": Features(
        {name: Value("string") for name in SCIENCE_QA}
        | {"image": Image(), "answer": Value("int8"), "choices": List(Value("string"))}
    ),
}


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    colored(40, 30, seed).save(buffer, format="PNG")
    return buffer.getvalue()


def repository(folder: Path, name: str, rows: list, split: str) -> Path:
    """Lay rows out as the Hub does: Parquet files of a configuration, told by the card's header."""
    config = PUBLIC_SETS[name].config or "default"
    path = folder / config / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    Dataset.from_list(rows, features=TYPES.get(name)).to_parquet(path)
    files = f"  data_files:\n  - split: {split}\n    path: {config}/{split}-*"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: {config}\n{files}\n---\n")
    return folder


def converted(name: str, output: Path, split: str, **options) -> list[tuple[str, str]]:
    dropped: list[tuple[str, str]] = []
    convert(PUBLIC_SETS[name], output, split, lambda row, reason: dropped.append((row, reason)), **options)
    return dropped


@pytest.fixture
def images(tmp_path) -> Path:
    for name in ("991237d4.jpg", "OK-VQA/1.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colored(40, 30, 1).save(path)
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("name", "row", "chunks"),
    [
        ("hotpotqa", HOTPOT, 3),
        ("hotpotqa-fullwiki", HOTPOT, 3),
        ("2wikimultihopqa", TWO_WIKI, 3),
        ("musique", MUSIQUE, 3),
        ("scienceqa", SCIENCE_QA | {"image": {"bytes": png(1), "path": "a.png"}}, 1),
    ],
)
def test_rows_are_streamed_from_a_repository(name, row, chunks, tmp_path):
    source = repository(tmp_path / "hub", name, [row, row], "validation")
    assert converted(name, tmp_path / "out", "validation", source=str(source)) == []
    corpus = list(read_records(Chunk, tmp_path / "out" / "corpus" / "validation.parquet"))
    first, second = read_records(QAPair, tmp_path / "out" / "qa" / "validation.parquet")
    assert len(corpus) == chunks and first == second
    assert set(first.gold_ids) <= {chunk.id for chunk in corpus} and first.gold_ids
    if name == "scienceqa":
        assert load_image(first.question[0]["image"]).tobytes() == colored(40, 30, 1).tobytes()


def test_questions_alone_make_no_corpus(tmp_path):
    source = repository(tmp_path / "hub", "bamboogle", [BAMBOOGLE], "test")
    converted("bamboogle", tmp_path / "out", "test", source=str(source))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["qa"]


@pytest.mark.parametrize("name", ["mmeb", "mme5-synthetic"])
def test_examples_come_with_their_pictures(name, images, tmp_path):
    source = repository(tmp_path / "hub", name, [MME5, MME5 | {"qry_image_path": "OK-VQA/none.jpg"}], "train")
    ((row, reason),) = converted(name, tmp_path / "out", "train", source=str(source), images=images)
    assert row == "row 1" and "none.jpg" in reason
    (example,) = read_records(Example, tmp_path / "out" / "triplets" / "train.parquet")
    assert example.query[0]["image"] == (images / "OK-VQA" / "1.jpg").read_bytes()


def test_the_authors_text_pairs(tmp_path):
    rows = [NYX_T2T, NYX_T2T | {"pos_image_path": ["a.png"]}]
    source = repository(tmp_path / "hub", "nyx-t2t", rows, "train")
    dropped = converted("nyx-t2t", tmp_path / "out", "train", source=str(source))
    assert dropped == [("row 1", "a text pair with pictures")]
    (example,) = read_records(Example, tmp_path / "out" / "triplets" / "train.parquet")
    assert example.answers == ["Norland"] and [text_of(each) for each in example.negatives] == ["a Masca", "an oak"]


def test_multimodalqa_is_read_from_its_files(images, tmp_path):
    names = ("texts", "tables", "images", "dev")
    for name, row in zip(names, (MMQA_TEXT, MMQA_TABLE, MMQA_IMAGE, MMQA_QUESTION), strict=True):
        with gzip.open(tmp_path / f"MMQA_{name}.jsonl.gz", "wt") as file:
            file.write(json.dumps(row) + "\n")
    converted("multimodalqa", tmp_path / "out", "validation", source=str(tmp_path), images=images)
    corpus = list(read_records(Chunk, tmp_path / "out" / "corpus" / "validation.parquet"))
    (question,) = read_records(QAPair, tmp_path / "out" / "qa" / "validation.parquet")
    assert set(question.gold_ids) == {chunk.document_id for chunk in corpus[1:]}
    with pytest.raises(ValueError, match="lacks MMQA_train.jsonl.gz"):
        converted("multimodalqa", tmp_path / "out", "train", source=str(tmp_path), images=images)


def test_what_cannot_be_used_is_told_and_limits_hold(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [HUMAN, HUMAN | {"question_in_gold_doc": True}, HUMAN | {"answer": ""}, HUMAN]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dropped = converted("human-questions", tmp_path / "out", "train", source=str(path), limit=3)
    assert dropped == [("row 1", "the question stands in its document"), ("row 2", "no answer")]
    assert len(list(read_records(QAPair, tmp_path / "out" / "qa" / "train.parquet"))) == 1


@pytest.mark.parametrize(
    ("name", "row"),
    [("hotpotqa", HOTPOT), ("musique", MUSIQUE), ("mmeb", MME5), ("scienceqa", SCIENCE_QA), ("nyx-t2t", NYX_T2T)],
)
def test_null_anywhere_is_a_reason_or_nothing(name, row, images):
    for column in row:
        dropped: list[str] = []
        made = list(
            to_records(
                [row | {column: None}], PUBLIC_SETS[name], images, lambda _, reason, kept=dropped: kept.append(reason)
            )
        )
        assert bool(made) != bool(dropped) and all(dropped)


def test_a_failure_leaves_no_file(tmp_path):
    def broken(row):
        if row["Answer"] == "stop":
            raise RuntimeError("stopped")
        return PUBLIC_SETS["bamboogle"].records(row)

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(BAMBOOGLE | {"Answer": answer}) + "\n" for answer in ("a", "stop")))
    with pytest.raises(RuntimeError, match="stopped"):
        convert(PublicSet(broken, ()), tmp_path / "out", "test", print, source=str(path))
    assert list((tmp_path / "out").rglob("*.parquet*")) == []


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("hotpotqa", [BAMBOOGLE], "Row 0 lacks .*'context'.*; it has .'Answer', 'Question'"),
        ("bamboogle", [BAMBOOGLE | {"Answer": ""}], "No row can be used; row 0: .*no answer"),
        ("mmeb", [MME5], "Say with `images`"),
    ],
)
def test_what_is_no_such_set_is_refused(name, rows, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=message):
        converted(name, tmp_path / "out", "train", source=str(path))


def test_a_set_without_a_repository_needs_its_file(tmp_path):
    with pytest.raises(ValueError, match="Name the file as its source"):
        converted("human-questions", tmp_path / "out", "train")
    (tmp_path / "rows.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match=r"none of .parquet, .json, .jsonl"):
        converted("human-questions", tmp_path / "out", "train", source=str(tmp_path / "rows.csv"))


def test_the_command_leaves_a_folder_that_loads(tmp_path, capsys):
    path, output = tmp_path / "rows.jsonl", tmp_path / "out"
    rows = [HOTPOT, HOTPOT | {"answer": ""}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SystemExit) as end:
        main(["convert", "hotpotqa", "--source", str(path), "-o", str(output), "--split", "validation"])
    assert end.value.code == 0 and "1 rows left out" in capsys.readouterr().out
    assert json.loads((output / "validation.dropped.jsonl").read_text()) == {"row": "row 1", "reason": "no answer"}
    assert load_dataset(str(output), split="validation", streaming=True).features == features(QAPair)
    with pytest.raises(SystemExit) as end:
        main(["convert", "squad", "-o", str(output)])
    assert end.value.code == 2 and "Unknown set 'squad'; expected one of hotpotqa, " in capsys.readouterr().err


def multihop(name: str) -> list[dict]:
    return [json.loads(line) for line in (MULTIHOP / name).read_text().splitlines()]


def as_hotpot(row: dict) -> dict:
    """Put a kept row back into the Hub's columns."""
    titles = [each["title"] for each in row["paragraphs"]]
    sentences = [each["sentences"] for each in row["paragraphs"]]
    facts = {"title": [fact[0] for fact in row["supporting_facts"]], "sent_id": []}
    return row | {
        "answer": row["answers"][0],
        "context": {"title": titles, "sentences": sentences},
        "supporting_facts": facts,
    }


def as_musique(row: dict) -> dict:
    paragraphs = [
        {"title": each["title"], "paragraph_text": each["text"], "is_supporting": each["is_gold"]}
        for each in row["paragraphs"]
    ]
    aliases = {"answer": row["answers"][0], "answer_aliases": row["answers"][1:], "answerable": True}
    return row | aliases | {"paragraphs": paragraphs}


@needs_multihop
@pytest.mark.parametrize(
    ("name", "file", "shape"),
    [
        ("hotpotqa", "hotpotqa_200.jsonl", as_hotpot),
        ("2wikimultihopqa", "2wikimultihopqa_164.jsonl", as_hotpot),
        ("musique", "musique_200.jsonl", as_musique),
    ],
)
def test_real_rows_keep_their_gold(name, file, shape):
    rows = multihop(file)
    dropped: list[str] = []
    records = list(to_records(map(shape, rows), PUBLIC_SETS[name], None, lambda _, reason: dropped.append(reason)))
    chunks = {record.id: record for record in records if isinstance(record, Chunk)}
    questions = [record for record in records if isinstance(record, QAPair)]
    assert dropped == [] and [question.id for question in questions] == [row["id"] for row in rows]
    for row, question in zip(rows, questions, strict=True):
        gold = {each["title"] for each in row["paragraphs"] if each["is_gold"]}
        assert {chunks[key].document_id for key in question.gold_ids} == gold and question.answers == row["answers"]
    # Their own paragraphs answer far more questions than others' do.
    contents = [chunk.content for chunk in chunks.values()]
    positions, _ = BM25(contents).search([question.question for question in questions], 5)
    keys = list(chunks)
    found = [
        any(keys[place] in question.gold_ids for place in row)
        for row, question in zip(positions, questions, strict=True)
    ]
    held = [
        any(accuracy(text_of(chunks[key].content), question.answers) for key in question.gold_ids)
        for question in questions
        if question.answers[0] not in ("yes", "no")
    ]
    assert sum(found) / len(found) > 0.8 and sum(held) / len(held) > 0.9


@needs_multihop
def test_all_of_bamboogle_is_kept():
    rows = ({"Question": row["question"], "Answer": row["answers"][0]} for row in multihop("bamboogle.jsonl"))
    records = list(to_records(rows, PUBLIC_SETS["bamboogle"], None, lambda *_: pytest.fail("dropped")))
    assert len({record.id for record in records}) == 125


@needs_multihop
def test_real_questions_of_multimodalqa_name_their_documents(tmp_path):
    rows = [
        {
            "qid": row["qid"],
            "question": row["question"],
            "answers": [{"answer": answer} for answer in row["answers"]],
            "metadata": {"type": row["type"], "modalities": row["modalities"]},
            "supporting_context": row["supporting"],
        }
        for row in multihop("mmqa_dev_questions_2441.jsonl")
    ]
    public = PUBLIC_SETS["multimodalqa"]
    questions = list(to_records(rows, public, tmp_path, lambda *_: pytest.fail("dropped")))
    assert len({question.id for question in questions}) == 2441
    for row, question in zip(rows, questions, strict=True):
        assert question.gold_ids == list(dict.fromkeys(each["doc_id"] for each in row["supporting_context"]))
        assert (question.modality == "mixed") == ("image" in row["metadata"]["modalities"])


@needs_textbooks
def test_real_questions_on_textbooks():
    public, dropped = PUBLIC_SETS["human-questions"], []
    rows = read_rows(public, "train", str(SHARED / "openstax-physical" / "qa.parquet"))
    questions = list(to_records(rows, public, None, lambda _, reason: dropped.append(reason)))
    assert len(questions) == 987 and dropped == ["the question stands in its document"] * 6
    assert len({question.gold_ids[0] for question in questions}) > 100
    assert sum(question.modality == "mixed" for question in questions) > 60
