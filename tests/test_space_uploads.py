"""What a visitor uploads is bounded, and leaves nothing behind."""

import base64

import pytest
from fpdf import FPDF

from tests.space_pages import bomb, write_pages
from uploads import MOST_CHUNKS, read_pages


def test_uploads_are_bounded_and_leave_nothing(tmp_path, monkeypatch):
    own_pages = write_pages(tmp_path / "own")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    pages = read_pages(own_pages, lambda *_: None)
    assert len(pages.chunks) == 2 and pages.files == 4
    twin = tmp_path / "notes.md"
    twin.write_text("Another page.")
    (tmp_path / "run.exe").write_bytes(b"MZ")
    paths = [
        *own_pages,
        twin,
        tmp_path / "run.exe",
        bomb(tmp_path / "bomb.png", 5001),
        bomb(tmp_path / "b.png", 20000),
    ]
    reasons = dict(reversed(read_pages(paths, lambda *_: None).left_out))
    assert reasons["run.exe"].startswith(".exe; expected .md")
    assert reasons["bomb.png"] == "picture of more than 25 million pixels" and "b.png" in reasons
    assert "another upload has its name" in [
        reason for source, reason in read_pages(paths, lambda *_: None).left_out if source == "notes.md"
    ]
    assert not any(str(tmp_path) in reason for reason in reasons.values())
    (tmp_path / "long.md").write_text(
        "\n\n".join(f"Page {number}. " + "word " * 190 for number in range(MOST_CHUNKS + 5))
    )
    long = read_pages([tmp_path / "long.md"], lambda *_: None)
    assert len(long.chunks) == MOST_CHUNKS and long.left_out == [
        ("the rest", f"more than {MOST_CHUNKS} pieces of page")
    ]
    (tmp_path / "large.md").write_text("[" * 1_000_001)
    assert read_pages([tmp_path / "large.md"], lambda *_: None).left_out == [
        ("large.md", "Markdown of more than 1 MB")
    ]
    (tmp_path / "beacon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    (reason,) = [each for _, each in read_pages([tmp_path / "beacon.svg"], lambda *_: None).left_out]
    assert reason.startswith(".svg; expected")
    with pytest.raises(ValueError, match="At most 20 files, 40 MB together; 21 of"):
        read_pages([twin] * 21, lambda *_: None)
    with pytest.raises(ValueError, match="Choose files first"):
        read_pages([], lambda *_: None)
    assert list((tmp_path / "t").iterdir()) == []


def test_pictures_inside_pages_are_bounded_too(tmp_path):
    data = base64.b64encode(bomb(tmp_path / "bomb.png", 5001).read_bytes()).decode()
    (tmp_path / "page.html").write_text(f"<p>It flies in May.</p><img src='data:image/png;base64,{data}'>")
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica")
    pdf.cell(text="It lives by the lagoon.")
    pdf.image(tmp_path / "bomb.png", w=50)
    pdf.output(str(tmp_path / "page.pdf"))
    pages = read_pages([tmp_path / "page.html", tmp_path / "page.pdf"], lambda *_: None)
    reason = "picture of more than 25 million pixels"
    assert sorted(pages.left_out) == [("page.html", reason), ("page.pdf", reason)]
    assert [[item["type"] for item in chunk.content] for chunk in pages.chunks] == [["text"]] * 2
