"""The statistics of the benchmarks equal their closed forms, and what they run against is what it stands for."""

import json
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import almanac, encode, gpu, loss, search, search_case, train_step
from benchmarks.almanac import RETRIEVERS, against, score_seed, train_seed
from benchmarks.data.ingest import copy_pages
from benchmarks.data.runs import Clock, Job, bar, file
from benchmarks.data.slow_server import answered
from benchmarks.encode import as_files, repeated
from benchmarks.encode_case import documents, write_checkpoint
from benchmarks.measure import in_common, in_short
from benchmarks.pages import document_recall
from benchmarks.tables import encode_rows, speed_table
from benchmarks.textbooks import write_dataset
from dataset_builders.almanac import build
from dataset_builders.filters import RULES, Draft, reason_against
from dataset_builders.page_chunks import CutRule, chunk_pages
from dataset_builders.pairs import PASSES, Prompt
from dataset_builders.prompts import ask_distractors, ask_pairs, ask_shorter, misfit
from dataset_builders.schema import Chunk, QAPair, read_records
from modeling_nyx import NyxModel
from nyx import funnel
from nyx.records import content_id
from nyx.server_engine import ServerEngine
from tests.conftest import picture, text
from tests.test_sources import png

NAMES = [f"document {number}" for number in range(25)]


def test_paired_outcomes_are_told_in_points():
    result = against([1, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 1])
    low, high = result.pop("interval")
    assert result == {"points": pytest.approx(100 / 6), "won": 2, "lost": 1, "p": 1.0} and -50 <= low < high <= 67


def test_a_seed_of_the_almanac_trains_and_scores_every_retriever(tmp_path):
    build(
        tmp_path / "nyxqa",
        species={"train": 8, "validation": 4, "test": 4},
        triplets={"train": 16, "validation": 4, "test": 4},
    )
    counts = train_seed(tmp_path, 0, ["--max_steps", "1", "--per_device_train_batch_size", "4"])
    report = score_seed(tmp_path, counts)
    assert set(report["retrievers"]) == {"bm25", *RETRIEVERS}
    assert len(report["em"]["stage 2"]) == report["questions"] > 0


def test_commits_are_told_in_short_and_with_what_differed():
    first, second = 12 * "a", 12 * "b"
    assert in_short(first) == "commit `aaaaaaaaaa`"
    assert in_short(f"{first}-dirty") == "commit `aaaaaaaaaa` with changes"
    assert in_short([first, first, f"{second}-dirty"]) == "commit `aaaaaaaaaa`, commit `bbbbbbbbbb` with changes"
    origins = [{"command": "x", "commit": each} for each in (first, second)]
    assert in_common(origins) == {"command": "x", "commit": [first, second]} and in_common(origins[:1]) == origins[0]


def test_kept_seeds_are_published_with_what_measured_them(tmp_path, monkeypatch):
    for seed, commit in enumerate("ab"):
        origin = {"command": "x", "commit": commit, "hardware": "y"}
        (tmp_path / f"seed{seed}").mkdir()
        (tmp_path / f"seed{seed}" / "report.json").write_text(json.dumps({"about": origin, "em": {}, "questions": 2}))
    monkeypatch.setattr(almanac, "RESULTS", tmp_path / "almanac.json")
    monkeypatch.setattr(almanac, "summarise", lambda seeds: {"seeds": len(seeds)})
    almanac.main(["--folder", str(tmp_path), "--seeds", "0", "1"])
    assert json.loads((tmp_path / "almanac.json").read_text()) == {
        **origin,
        "commit": ["a", "b"],
        "summary": {"seeds": 2},
        "seeds": {"0": {"questions": 2}, "1": {"questions": 2}},
    }


def test_a_documents_rank_is_its_best_chunks():
    chunks = [Chunk(str(i), document, "s", [text("x")]) for i, document in enumerate("aabc")]
    positions = np.array([[0, 1, 3, 2], [2, 3, 0, 1]])
    assert document_recall(positions, chunks, ["c", "b"]) == {"recall@1": 0.5, "recall@10": 1.0}


def test_questions_are_split_by_the_document_they_are_about(tmp_path):
    chunks = [Chunk(f"{name}{part}", name, "s", [text(f"{name} {part}")]) for name in NAMES for part in "ab"]
    questions = [
        QAPair(f"{name}{i}", [text(name)], ["x"], [], None, [name], "text") for name in NAMES[:20] for i in (0, 1)
    ]
    counts = write_dataset(tmp_path, chunks, questions, seed=1)
    assert counts == {"train": 28, "validation": 4, "test": 8}
    about = {split: _gold_documents(tmp_path / "qa" / f"{split}.parquet") for split in counts}
    assert set.union(*about.values()) == set(NAMES[:20]) and sum(map(len, about.values())) == 20
    corpora = {split: _documents(tmp_path / "corpus" / f"{split}.parquet") for split in counts}
    assert corpora["train"] == set(NAMES) - about["validation"] - about["test"]
    assert corpora["validation"] == about["validation"] and corpora["test"] == set(NAMES)


def _gold_documents(path):
    return {question.gold_ids[0] for question in read_records(QAPair, path)}


def _documents(path):
    return {chunk.document_id for chunk in read_records(Chunk, path)}


PAGE = [text("Vela mirabilis lives by the salt marsh. It flies in May and June alone. Short."), picture(56, 56, 1)]


def answer(request, answers=None):
    reply = json.loads(answered(ServerEngine("http://localhost/v1", "m").body(request), answers or {}))
    said = reply["choices"][0]["message"]["content"]
    return json.loads(said) if request.schema else said


def test_the_slow_server_writes_pairs_that_every_filter_lets_through():
    for (instruction, least), page in [(PASSES["text"][0], PAGE[:1]), (PASSES["one picture"][0], PAGE)]:
        request = ask_pairs(page, instruction)
        found = answer(request)
        assert misfit(found, request.schema) is None and len(found["pairs"]) == 2
        for pair in found["pairs"]:
            shorter, wrong = (ask(page, **pair) for ask in (ask_shorter, ask_distractors))
            draft = Draft(pair["question"], answer(shorter)["answer"], len(page) - 1, least)
            assert reason_against(draft, RULES) is None and draft.answer in page[0]["text"]
            assert misfit(answer(wrong), wrong.schema) is None


def test_the_slow_server_answers_from_documents_alone():
    answers = {"Where does it live?": "salt marsh"}
    for given, said in [([PAGE], "salt marsh"), ([PAGE[1:]], "unknown"), ([], "unknown")]:
        assert answer(Prompt(given, [text("Where does it live?")]).request(32), answers) == said


def test_copies_of_pages_are_cut_alike_and_share_no_chunk(tmp_path):
    words = " ".join(f"Moth {letter} flies by night." for letter in "abcdefghij")
    rows = [{"texts": [words, None, "The end."], "images": [None, png(), None], "doc_id": "d"}]
    schema = pa.schema({"texts": pa.list_(pa.string()), "images": pa.list_(pa.binary()), "doc_id": pa.string()})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "pack.parquet")
    copy_pages(tmp_path / "pack.parquet", tmp_path / "copies.parquet")
    (page,) = chunk_pages(tmp_path / "pack.parquet", CutRule(tokens=20, images=1), print)
    copies = list(chunk_pages(tmp_path / "copies.parquet", CutRule(tokens=20, images=1), print))
    assert [len(chunks) for chunks in copies] == [len(page)] * 10 and len(page) > 2
    assert len({chunk.id for chunks in copies for chunk in chunks}) == 10 * len(page)
    assert len({chunk.document_id for chunks in copies for chunk in chunks}) == 10


def test_the_clock_of_killed_runs(tmp_path):
    clock = Clock(
        Job(lambda url: [], {"find": bar("found"), "ask": file("{pid}.asked"), "end": bar("end")}, "ask"),
        tmp_path / "log",
    )
    clock.seconds, clock.calls = {"find": 10.0, "ask": 20.0, "end": 5.0}, 4
    (tmp_path / "stderr").write_text("Warning: found: none\n")
    assert clock.step(tmp_path, 7) is None and clock.now(None, 0.0) == 0.0
    (tmp_path / "stderr").write_text("\rfound:   0%|")
    assert clock.step(tmp_path, 7) == "find" and clock.now("find", -1e9) == 10.0
    (tmp_path / "log").write_text("a\n")
    # Another run has asked before, so that this one is further than its own step.
    assert clock.now("find", -1e9) == 15.0
    (tmp_path / "7.asked").touch()
    assert clock.step(tmp_path, 7) == "ask" and clock.step(tmp_path, 8) == "find"
    (tmp_path / "log").write_text("a\nb\nc\nd\n")
    assert clock.now("ask", 0.0) == 30.0 and clock.now("end", -1e9) == 35.0


def test_a_training_step_is_timed_and_weighed(capsys):
    train_step.main(["--dry"])
    said = capsys.readouterr().out
    results = json.loads(said[said.index("{") :])  # DeepSpeed speaks first, where nothing has loaded it before
    assert results["contents"] == 12 and results["patches"] > 0
    for vision in ("trained", "frozen"):
        assert results["steps"][vision]["ours"]["seconds"] > 0
        weighed = results["memory"][vision]["ours"]["2"]
        assert 50 < weighed["before"] < weighed["peak"]


def test_examples_of_a_batch_are_all_different():
    batch = train_step.triplets(6)
    contents = [content for each in batch for content in (each.query, *each.positives, *each.negatives)]
    assert len({content_id(content) for content in contents}) == 18
    pictures = [item["image"] for content in contents for item in content if item["type"] == "image"]
    assert len(set(pictures)) == len(pictures) > 18


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs the train extra")
def test_what_a_gpu_would_measure_runs_on_a_cpu(capsys):
    """All of it: encoding beside transformers, steps with the cache and without, a launch under ZeRO-2."""
    gpu.main(["--dry"])
    said = capsys.readouterr().out
    results = json.loads(said[said.index("{") :])  # DeepSpeed speaks first, where nothing has loaded it before
    encode = results["encode"]
    assert encode["ours"]["least cosine with the same content alone"] > 0.9999
    assert encode["least cosine with transformers"] > 0.999
    assert all(each["median seconds"] > 0 for each in results["stage 1 step"].values())
    assert results["ZeRO-2"]["processes"] == results["ZeRO-2"]["steps"] == 2
    results["stage 1 step"]["one pass, no checkpointing"] |= {"out of memory": True}
    table = speed_table({"gpu": results})
    assert "encode 6 mixed documents | transformers, batch" in table
    assert " tokens, one pass, no checkpointing |  | out of memory |  |" in table
    assert "one pass" not in speed_table({"gpu": {key: results[key] for key in results if key != "stage 1 step"}})


def test_the_loss_equals_sentence_transformers(capsys):
    loss.main(["--dry"])
    results = json.loads(capsys.readouterr().out)
    for products in results["products"].values():
        for name in ("rival against ours", "ours against float64"):
            assert max(products["8×32"][name].values()) < 1e-5
    assert "| Matryoshka loss and gradients, 8×32 × 64 | sentence-transformers" in speed_table({"loss": results})


def test_memory_is_what_a_loss_takes():
    similarities = 256 * 8192 * 4 / 2**20
    assert similarities <= loss.memory("ours", 256, 8192, [64, 8]) <= 16 * similarities


def test_search_is_measured_against_faiss(capsys, monkeypatch, model_folder):
    monkeypatch.setattr(funnel, "SMALL", 64 * 2000)
    # Few pages, of an untrained model, resemble each other too much for more.
    monkeypatch.setattr(funnel, "RECALL", 0.5)
    search.main(["--dry", "--model", str(model_folder)])
    results = json.loads(capsys.readouterr().out)
    assert results["command"] == f"python -m benchmarks.search --model {model_folder.name} --dry"
    exact, coded = (results["sizes"][size]["ours"] for size in ("1000", "2000"))
    assert exact["recall@10"] == 1 and exact["plan"] == "every vector is compared"
    assert 0.4 <= coded["recall@10"] <= 1 and coded["plan"]["prefix"] == 64
    assert results["all dimensions"]["largest difference of a cosine"] < 1e-5
    table = speed_table({"search": results})
    assert "| a single query, 2,000 pages | FAISS `IndexFlatIP`" in table
    assert "| memory and building, 1,000 pages |" in table and "maps from disk aren't counted" in table


def test_embeddings_are_kept_for_the_model_that_made_them(tmp_path, monkeypatch):
    def states(model, species, worlds):
        asked.append(model.name)
        return torch.randn(20, 8), torch.randn(10, 8), torch.randint(0, 20, (10,))

    asked = []
    monkeypatch.setattr(search_case, "states", states)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    for name in "aabb":
        search_case.embed(tmp_path / "kept", tmp_path / name, [8, 4, 2, 1], 30, worlds=1, species=1, steps=1)
    assert asked == ["a", "b"]


def test_what_was_not_measured_is_no_row():
    assert "sentence-transformers" not in speed_table({}) and speed_table({}).count("|") == 10


def test_encoding_is_measured_without_a_rival_too(tmp_path):
    encode.main(["--dry", "--rounds", "1", "--threads", "1", "--output", str(tmp_path / "encode.json")])
    report = json.loads((tmp_path / "encode.json").read_text())
    assert report["ours, together against alone"] == 0 and report["documents"] == 6
    assert report["documents per second"] == pytest.approx(6 / report["parts"]["encode"]["seconds"], rel=0.01)
    curves = report["documents per second against"]
    assert set(curves) == {"documents", "words per document", "pictures per document", "cores"}
    assert (tmp_path / "encode.png").stat().st_size > 1000


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_rival_is_named_as_it_was_measured(dtype):
    """Whatever the machine that writes the table computes in."""
    times = {"seconds": 2.0, "least": 1.0, "most": 3.0}
    best = f"{dtype}, batch 1"
    ratios = ("ratio to its best", "ratio to its full defaults", "ratio, repeated pictures")
    names = (best, encode.DEFAULT, "ours", "rival, repeated", "ours, repeated")
    seconds = {"documents": 1, "tokens": 1, "rival's best": best, "seconds": dict.fromkeys(names, times)}
    rows = encode_rows(seconds | dict.fromkeys(ratios, 1.0))
    assert rows[2][:2] == ("the same of 8 pictures", f"sentence-transformers, {best}: 2 s (1–3)")


def test_linear_work_is_counted_from_the_shapes(tmp_path):
    model = NyxModel.from_pretrained(write_checkpoint(tmp_path / "model", tiny=True))
    rows = model.processor.rows(documents(2, pictures=1))
    tokens, patches = sum(len(row.ids) for row in rows), sum(h * w for row in rows for h, w in row.grids)
    written = 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 128)
    seen = 1176 * 32 + 2 * (32 * (96 + 32) + 3 * 32 * 64)
    merged = 128 * (128 + 64)
    assert encode.linear_flops(model, rows) == 2 * (tokens * written + patches * seen + patches // 4 * merged)


def test_repeated_pictures_are_few(tmp_path):
    contents = repeated(documents(5, pictures=2), 3)
    files = as_files(contents, tmp_path / "files")
    paths = [item["image"] for content in files for item in content if item["type"] == "image"]
    assert len(paths) == 10 and len(set(paths)) == 3
