"""A report says what the records say, in files that need no other."""

import re

import pytest

from evaluation.records import read_all
from evaluation.report import write_report
from evaluation.tables import summarise, told
from tests.test_protocol import benchmark, reader, run

__all__ = ["benchmark"]


def test_reports_have_every_table_and_plot(benchmark, tmp_path):
    out = tmp_path / "out"
    for system in ("bm25", "none", "gold"):
        run(benchmark, out, system, {"<b>|reader": reader()})
    run(benchmark, out)
    paths = write_report(out)
    tables = summarise(read_all(out))
    report, page, results = (path.read_text() for path in paths)
    assert [path.name for path in paths] == ["report.md", "report.html", "results.md"] and len(tables) == 2
    for table in tables:
        for row in table["retrievers"]:
            for name, (low, high) in row["interval"].items():
                spelled = f"{row[name]:.3f} {low:.2f}–{high:.2f}"
                assert all(spelled in text for text in (report, page, results))
        for sentence in told(table):
            assert f"- {sentence}" in results and sentence in page
    # Pictures are inside, nothing else is fetched, and names are no markup.
    assert report.count("](data:image/png;base64,") == page.count('src="data:image/png;base64,') == 2
    assert "data:" not in results and "http" not in re.sub(r"base64,[^\")]+", "", page)
    assert "<b>" not in report + page + results and "&lt;b&gt;\\|reader" in results
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_report(out)] == before


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no records. Run `nyx evaluate … -o"):
        write_report(tmp_path)
