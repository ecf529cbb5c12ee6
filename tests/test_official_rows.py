"""The authors' rows become our records and the same rows again; rows that contradict themselves do not."""

import json
import subprocess
import sys

import pytest
from datasets import load_dataset

from dataset_builders.official import (
    convert,
    corpus_rows,
    question_rows,
    read_corpus,
    read_questions,
    read_triplets,
    triplet_rows,
)
from dataset_builders.schema import Chunk, Example, QAPair, read_records, write_records
from modeling_nyx.images_nyx import image_key
from tests.conftest import colored

CORPUS = [
    {
        "text": "<|image|>Vela mirabilis, at rest.\nThen <|image|><|image|> in flight. ",
        "images": ["a.png", "b/c.png", "a.png"],
    },
    {"text": "Masca lunaris lives by the salt marsh.", "images": []},
    {"text": "<|image|>", "images": ["d.png"]},
]
QUESTION = {
    "qry": "What is the moth in <|image|> called?",
    "ans": "Vela mirabilis",
    "pos_text": CORPUS[0]["text"],
    "pos_image_path": CORPUS[0]["images"],
    "qry_image_path": ["d.png"],
    "img_num": 3,
    "choices": ["Masca lunaris", "Vela mirabilis", "Orna fusca", "Vela nova"],
    "right_choice": 1,
}
TEXT_QUESTION = QUESTION | {
    "qry": "Where does Masca lunaris live?",
    "ans": "by the salt marsh",
    "pos_text": CORPUS[1]["text"],
    "pos_image_path": [],
    "qry_image_path": [],
    "img_num": 0,
    "right_choice": 0,
}
NEGATIVES = {
    "neg_text": [CORPUS[1]["text"], CORPUS[2]["text"], CORPUS[0]["text"]],
    "neg_image_path": [[], ["d.png"], CORPUS[0]["images"]],
}
TEXT_PAIR = {
    "qry": "Who noted Masca lunaris first?",
    "qry_image_path": [],
    "pos_text": "Ada Silva noted it.",
    "pos_image_path": [],
    "neg_text": ["It flies in May.", "It feeds on oak."],
    "neg_image_path": [],
    "ans": ["Ada Silva", "Silva"],
}


def refuse(row, reason):
    pytest.fail(f"{row}: {reason}")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "b").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b/c.png", "d.png")):
        colored(40, 30, seed).save(folder / name)
    return folder


def test_the_corpus_comes_back(images):
    chunks = list(read_corpus(CORPUS, images, refuse))
    assert list(corpus_rows(chunks, images)) == CORPUS
    kinds = [item["type"] for item in chunks[0].content]
    assert kinds == ["image", "text", "image", "image", "text"] and len({chunk.id for chunk in chunks}) == 3


def test_questions_come_back_and_know_their_chunk(images):
    rows = [QUESTION, TEXT_QUESTION]
    chunks, pairs = list(read_corpus(CORPUS, images, refuse)), list(read_questions(rows, images, refuse))
    assert list(question_rows(pairs, chunks, images)) == rows
    assert [pair.gold_ids for pair in pairs] == [[chunks[0].id], [chunks[1].id]]
    assert [pair.modality for pair in pairs] == ["mixed", "text"]
    assert pairs[0].options[pairs[0].correct_option] == pairs[0].answers[0]


def test_hard_negatives_come_back(images):
    rows = [QUESTION | NEGATIVES, TEXT_QUESTION | {"neg_text": ["It flies in May."], "neg_image_path": [[]]}]
    chunks, pairs = list(read_corpus(CORPUS, images, refuse)), list(read_questions(rows, images, refuse))
    examples = list(read_triplets(rows, images, refuse))
    assert [example.id for example in examples] == [pair.id for pair in pairs]
    assert list(question_rows(pairs, chunks, images, examples)) == rows


def test_text_pairs_come_back(images):
    (example,) = read_triplets([TEXT_PAIR], images, refuse)
    assert example.answers == ["Ada Silva", "Silva"] and len(example.negatives) == 2
    assert list(triplet_rows([example], images)) == [TEXT_PAIR]
    rows = [QUESTION | NEGATIVES | {"ans": ["Vela mirabilis"]}]
    (mixed,) = triplet_rows(read_triplets(rows, images, refuse), images)
    assert mixed == {name: rows[0][name] for name in mixed} and "neg_image_path" in mixed


def test_names_may_carry_the_authors_prefix(images):
    row = CORPUS[0] | {"images": ["../NyxQA/images/a.png", "images/NyxQA/b/c.png", "a.png"]}
    assert list(corpus_rows(read_corpus([row], images, refuse), images)) == CORPUS[:1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (QUESTION | {"qry_image_path": []}, "1 <|image|> marks but came with 0 pictures"),
        (QUESTION | {"qry": "no mark"}, "0 <|image|> marks but came with 1 pictures"),
        (QUESTION | {"pos_image_path": ["a.png"]}, "3 <|image|> marks but came with 1 pictures"),
        (QUESTION | {"qry_image_path": ["none.png"]}, "No such picture file"),
        (QUESTION | {"qry_image_path": ["../secret.png"]}, "picture outside the folder: ../secret.png"),
        (QUESTION | {"qry_image_path": ["/etc/passwd"]}, "picture outside the folder: /etc/passwd"),
        (QUESTION | {"qry_image_path": ["../NyxQA/images/../../secret.png"]}, "picture outside the folder"),
        (QUESTION | {"qry_image_path": ["link.png"]}, "picture outside the folder: link.png"),
        (QUESTION | {"pos_text": "", "pos_image_path": []}, "Empty content"),
        (QUESTION | {"qry": None}, "0 <|image|> marks but came with 1 pictures"),
        (TEXT_QUESTION | {"qry": None}, "Empty content"),
        (QUESTION | {"right_choice": 4}, "right_choice is 4, but there are 4 choices"),
        (QUESTION | {"right_choice": None}, "not supported between"),
        (QUESTION | {"ans": None}, "None is neither a text nor a number"),
    ],
)
def test_a_row_that_contradicts_itself_is_left_out(row, reason, images):
    colored(30, 30, 9).save(images.parent / "secret.png")
    (images / "link.png").symlink_to(images.parent / "secret.png")
    left_out = []
    kept = list(read_questions([row, TEXT_QUESTION], images, lambda *told: left_out.append(told)))
    assert len(kept) == 1 and left_out[0][0] == "row 0" and reason in left_out[0][1]


def test_numbers_are_spelt(images, tmp_path):
    row = TEXT_QUESTION | {"ans": 1931, "choices": [1931, 19.5, "never", 0]}
    (pair,) = read_questions([row], images, refuse)
    assert pair.options == ["1931", "19.5", "never", "0"] and pair.answers == ["1931"]
    (example,) = read_triplets([row | {"neg_text": [], "neg_image_path": []}], images, refuse)
    assert (example.id, example.answers) == (pair.id, ["1931"])
    write_records([pair], tmp_path / "qa.parquet")


def test_mistakes_end_in_one_line(tmp_path):
    command = [sys.executable, "-m", "dataset_builders.official", str(tmp_path / "nowhere"), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("Error: ") and "Traceback" not in run.stderr


def test_negatives_and_their_pictures_must_match(images):
    left_out = []
    rows = [QUESTION | NEGATIVES | {"neg_image_path": [[]]}, QUESTION | NEGATIVES | {"neg_image_path": [[], [], []]}]
    assert list(read_triplets(rows, images, lambda *told: left_out.append(told))) == []
    reasons = [reason for _, reason in left_out]
    assert "3 neg_text but 1 neg_image_path" in reasons[0] and "marks but came with 0 pictures" in reasons[1]


def test_a_missing_column_is_named(images):
    with pytest.raises(ValueError, match=r"Row 0 lacks \['pos_text'\]; it has .*'qry'"):
        list(read_questions([{name: QUESTION[name] for name in QUESTION if name != "pos_text"}], images, refuse))


def test_a_mark_in_a_text_is_not_written_as_a_picture(images):
    chunk = Chunk("1", "1", "s", [{"type": "text", "text": "the mark <|image|> itself"}])
    with pytest.raises(ValueError, match="A text holds"):
        list(corpus_rows([chunk], images))


def test_pictures_kept_as_bytes_are_written_beside(images, tmp_path):
    write_records(read_corpus(CORPUS, images, refuse), tmp_path / "corpus.parquet")
    rows = list(corpus_rows(read_records(Chunk, tmp_path / "corpus.parquet"), tmp_path / "out"))
    assert [row["text"] for row in rows] == [row["text"] for row in CORPUS]
    for row, original in zip(rows, CORPUS, strict=True):
        written = [image_key(tmp_path / "out" / name) for name in row["images"]]
        assert written == [image_key(images / name) for name in original["images"]]
    again = list(read_corpus(rows, tmp_path / "out", refuse))
    assert [chunk.id for chunk in again] == [chunk.id for chunk in read_corpus(CORPUS, images, refuse)]


def test_their_files_become_a_dataset_folder(images, tmp_path):
    source, left_out = images.parent, []
    unknown = TEXT_QUESTION | {"pos_text": "A page that nobody has."}
    files = {
        "corpus.json": [*CORPUS, CORPUS[1]],
        "train.json": [QUESTION, TEXT_QUESTION],
        "dev.json": [QUESTION, unknown],
        "test.json": [TEXT_QUESTION, QUESTION | {"qry": "no mark"}],
        "train_hardneg.json": [QUESTION | NEGATIVES],
    }
    for name, rows in files.items():
        (source / name).write_text(json.dumps(rows))
    folder = convert(source, tmp_path / "nyxqa", lambda *told: left_out.append(told))
    assert [row for row, _ in left_out][:1] == ["corpus.json, row 3"] and len(left_out) == 3
    loaded = load_dataset(str(folder), cache_dir=tmp_path / "cache")
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 2, "validation": 1, "test": 1}
    corpora = [list(read_records(Chunk, folder / "corpus" / f"{split}.parquet")) for split in ("train", "test")]
    assert corpora[0] == corpora[1] and len(corpora[0]) == 3
    assert len(list(read_records(Example, folder / "triplets" / "train.parquet"))) == 1
    (pair,) = read_records(QAPair, folder / "qa" / "validation.parquet")
    assert pair.gold_ids == [corpora[0][0].id]
