"""NyxQA of any chunks: sample → questions → error filter → refinement → options → check → split (paper section 3.2).

Whatever is left out has a reason in `qa/rejected.jsonl`; `qa/report.json` and `qa/report.png` count it. The reader's
answers are all that takes long, and every one is kept: a run that was stopped goes on where it was, and ends with the
same bytes.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dataset_builders.asking import Rejected
from dataset_builders.card import SPLITS, STEPS, data_files, write_card
from dataset_builders.filters import Draft
from dataset_builders.pairs import QARule, Reject, Result, make_pairs, modality_of
from dataset_builders.pairs import reject as reject_of
from dataset_builders.questions import draw, modality
from dataset_builders.questions_report import REPORT, Report, plotting
from dataset_builders.schema import Chunk, QAPair, read_records, write_records
from dataset_builders.splits import Place, split_documents, split_questions
from modeling_nyx.content_nyx import text_of
from nyx.reader import Reader
from nyx.records import open_parquet

STEP = "questions of a reader"
AddLine = Callable[[dict[str, Any]], None]

TWICE = "the same question and answer came before"
FULL = "validation and test have enough of its modality"


def build(
    chunks: Path, folder: Path, reader: Reader, reader_name: str, rule: QARule, show_progress: bool = False
) -> Report:
    """Write `folder/{corpus,qa}/{train,validation,test}.parquet` of a file of chunks, and the card.

    Validation and test search in all chunks; those of train are without the documents that validation and test ask
    about, so that nothing mined from them is held out. Raises `ValueError` if no question is left, or if the folder
    holds questions of another origin.
    """
    # The report comes before the first split, so that a run that was killed between them can go on.
    if data_files(folder) and not (folder / "qa" / REPORT).is_file():
        raise ValueError(f"{folder} holds a dataset that was not made by this command. Name another folder.")
    plotting()
    report = Report()
    chosen = draw(_census(chunks, report), rule.chunks, rule.shares, rule.seed)
    (folder / "qa").mkdir(parents=True, exist_ok=True)
    aside = folder / "qa" / f".pairs.{os.getpid()}.partial"
    try:
        with _lines(folder / "qa" / "rejected.jsonl") as reject:
            picked = (chunk for chunk in _once(read_records(Chunk, chunks)) if chunk.id in chosen)
            results = make_pairs(picked, reader, rule, len(chosen), show_progress)
            places = _write_pairs(results, aside, len(chosen), report, reject)
            documents = split_documents(places, rule.splits())
            split = split_questions(places, documents, rule.splits())
            _count_splits(places, split, report, reject)
        report.write(folder / "qa")
        _remove_what_followed(folder)
        for name in SPLITS:
            _write_split(name, folder, chunks, aside, split, documents)
    finally:
        aside.unlink(missing_ok=True)
    write_card(folder, STEP, {"reader": reader_name} | asdict(rule) | report.facts())
    return report


def _census(path: Path, report: Report) -> Iterator[tuple[str, str]]:
    """Yield every chunk's id and modality once, without reading its pictures."""
    seen = set()
    with open_parquet(path) as file:
        for batch in file.iter_batches(columns=["id", "content.list.element.type"]):
            for row in batch.to_pylist():
                if row["id"] not in seen:
                    seen.add(row["id"])
                    kind = modality(sum(item["type"] == "image" for item in row["content"]))
                    report.chunks[kind] += 1
                    yield row["id"], kind


def _once(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    seen: set[str] = set()
    for chunk in chunks:
        if chunk.id not in seen:
            seen.add(chunk.id)
            yield chunk


def _write_pairs(
    results: Iterable[tuple[Chunk, list[Result]]], path: Path, chunks: int, report: Report, reject: AddLine
) -> list[Place]:
    """Write the pairs that are left, and return where they are from. Raises `ValueError` if there is none."""
    places: list[Place] = []
    try:
        write_records(_kept(results, places, report, reject), path)
    except ValueError as error:
        if places or report.sampled.total() < chunks:
            raise
        raise ValueError(f"No question is left of {chunks} chunks: {report.reasons()}.") from error
    return places


def _kept(
    results: Iterable[tuple[Chunk, list[Result]]], places: list[Place], report: Report, reject: AddLine
) -> Iterator[QAPair]:
    """Yield pairs that did not come before and note where they are from; tell what was left out."""
    seen: set[str] = set()
    for chunk, found in results:
        report.sampled[modality_of(chunk)] += 1
        for result in found:
            if isinstance(result, QAPair) and result.id in seen:
                draft = Draft(text_of(result.question), result.answers[0], 0)
                result = reject_of(chunk, Rejected("twice", TWICE, result.id), draft)
            if isinstance(result, Reject):
                report.reject(result.step, result.modality, result.reason)
                reject(asdict(result))
                continue
            seen.add(result.id)
            places.append(Place(result.id, chunk.document_id, result.modality))
            yield result


def _count_splits(places: Iterable[Place], split: dict[str, str], report: Report, reject: AddLine) -> None:
    for place in places:
        if place.id in split:
            report.kept[split[place.id], place.modality] += 1
        else:
            report.reject("split", place.modality, FULL)
            reject({"step": "split", "reason": FULL, "id": place.id, "modality": place.modality})


def _remove_what_followed(folder: Path) -> None:
    """Remove an earlier run's examples and feedback, whose questions may be held out now, and what was told of them.

    A reader's answers stay, so that feedback on the same questions costs nothing.
    """
    for path in [*(folder / "triplets").glob("*.parquet"), *(folder / "feedback").rglob("train.*")]:
        path.unlink()
    (folder / STEPS).unlink(missing_ok=True)


def _write_split(
    name: str, folder: Path, chunks: Path, pairs: Path, split: dict[str, str], documents: dict[str, str]
) -> None:
    """Write one split's questions and corpus, or remove an earlier run's if it has no questions."""
    corpus, qa = (folder / kind / f"{name}.parquet" for kind in ("corpus", "qa"))
    if name not in split.values():
        corpus.unlink(missing_ok=True)
        qa.unlink(missing_ok=True)
        return
    write_records((pair for pair in read_records(QAPair, pairs) if split.get(pair.id) == name), qa)
    everything = folder / "corpus" / "validation.parquet"
    if name == "test" and "validation" in split.values():
        corpus.unlink(missing_ok=True)
        os.link(everything, corpus)
        return
    part = _once(read_records(Chunk, chunks))
    if name == "train":
        part = (chunk for chunk in part if documents.get(chunk.document_id, name) == name)
    write_records(tqdm(part, desc=f"{name} corpus", leave=False), corpus)


@contextmanager
def _lines(path: Path) -> Iterator[AddLine]:
    """Give a function that adds a JSON line to a file; it appears when the block ends, or fails by a `ValueError`."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")

    def add(row: dict[str, Any]) -> None:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")

    try:
        with aside.open("w", encoding="utf-8") as file:
            try:
                yield add
            except ValueError:
                file.close()
                os.replace(aside, path)
                raise
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
