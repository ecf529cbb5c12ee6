"""The demo runs through every step and leaves what other parts rely on; here on a small world, with few steps."""

import json

import numpy as np

from dataset_builders.almanac import build
from modeling_nyx import NyxModel
from nyx.index import Index
from nyx_cli.main import main as nyx
from train_scripts import demo

ROWS = ["no document", "bm25", "divide and conquer", "stage 1", "stage 2", "gold document"]


def test_every_step_and_again(tmp_path, capsys):
    sizes = {"train": 30, "validation": 5, "test": 6}
    build(tmp_path / "nyxqa", species=sizes, triplets={"train": 64, "validation": 5, "test": 5})
    arguments = ["--folder", str(tmp_path), "--steps", "2"]
    demo.main(arguments)
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["retriever"] for row in report["rows"]] == ROWS and all(name in printed for name in ROWS)
    assert "Recall@5 by kind of question" in printed and "picture fact" in printed
    for row in report["rows"]:
        assert 0 <= row["answer_em"] <= 1
        if row["retriever"] not in ("no document", "gold document"):
            assert 0 <= row["recall@1"] <= row["recall@5"] <= 1 and row["recall@1"] <= row["mrr"] <= 1
    assert [row["dim"] for row in report["dimensions"]] == [128, 64, 32, 16]
    assert report["rows"][-1]["answer_em"] > 0.7 > report["rows"][0]["answer_em"]

    index, model = Index.open(tmp_path / "index"), NyxModel.from_pretrained(tmp_path / "stage2")
    contents = [chunk.content for chunk in index.chunks]
    assert np.abs(model.encode_documents(contents) - index.vectors).max() < 1e-5
    assert len(list((tmp_path / "almanac").glob("*.md"))) == len(index.chunks)
    try:
        nyx(["search", str(tmp_path / "index"), "Where does the moth Vela mirabilis live?"])
    except SystemExit as end:
        assert end.code == 0

    weights = (tmp_path / "stage2" / "model.safetensors").stat().st_mtime_ns
    demo.main(arguments)
    again = json.loads((tmp_path / "report.json").read_text())
    assert again["rows"] == report["rows"]
    assert (tmp_path / "stage2" / "model.safetensors").stat().st_mtime_ns == weights
