"""A PDF's paragraphs and pictures come in reading order; a broken, locked or greedy one is an error, never a crash."""

import io
import os
import sys

import pytest
from fpdf import FPDF

import dataset_builders.pdf
from dataset_builders.pdf import read_items
from modeling_nyx.images_nyx import image_key, load_image
from tests.conftest import colored


def jpeg(seed=1) -> bytes:
    buffer = io.BytesIO()
    colored(60, 60, seed).save(buffer, format="JPEG")
    return buffer.getvalue()


def read(path, **options):
    told = []
    return read_items(path, told.append, **options), told


def shown(items):
    return [item["text"] if item["type"] == "text" else "PICTURE" for item in items]


def write(path, encrypted=False):
    pdf = FPDF()
    if encrypted:
        pdf.set_encryption(owner_password="owner", user_password="user")
    pdf.add_page()
    pdf.set_font("Helvetica", size=20)
    pdf.cell(text="Night moths", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Helvetica", size=11)
    pdf.multi_cell(w=60, text="The first moth lives by the lagoon and flies in May.", new_x="LMARGIN", new_y="NEXT")
    pdf.image(io.BytesIO(jpeg()), w=30)
    pdf.ln(10)
    pdf.multi_cell(w=60, text="The second one came late.", new_x="LMARGIN", new_y="NEXT")
    pdf.add_page()
    pdf.image(io.BytesIO(jpeg()), w=30)
    pdf.image(colored(3, 3, 2), w=3)
    pdf.image(colored(40, 20, 2), w=30)
    pdf.output(path)
    return path


def test_paragraphs_and_pictures_in_order(tmp_path):
    items, told = read(write(tmp_path / "a.pdf"))
    first = "The first moth lives by the lagoon and flies in May."
    assert shown(items) == ["Night moths", first, "PICTURE", "The second one came late.", "PICTURE"]
    assert image_key(items[2]["image"]) == image_key(jpeg()), "a JPEG stays the file that it was"
    picture = load_image(items[4]["image"])
    assert picture.size == (40, 20) and picture.getpixel((20, 10)) == colored(40, 20, 2).getpixel((20, 10))
    assert told == ["picture of 3×3 pixels", "picture came before in the PDF"]


def test_columns_stay_columns(tmp_path):
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    for x, seed, words in ((10, 1, "left"), (110, 2, "right")):
        pdf.set_xy(x, 20)
        pdf.multi_cell(w=60, text=f"{words} over")
        pdf.image(io.BytesIO(jpeg(seed)), x=x, y=40, w=30)
        pdf.set_xy(x, 90)
        pdf.multi_cell(w=60, text=f"{words} under")
    pdf.output(tmp_path / "a.pdf")
    items, _ = read(tmp_path / "a.pdf")
    assert shown(items) == ["left over", "PICTURE", "left under", "right over", "PICTURE", "right under"]
    assert [image_key(item["image"]) for item in items if item["type"] == "image"] == [
        image_key(jpeg(1)),
        image_key(jpeg(2)),
    ]


def test_a_locked_one_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="needs a password"):
        read(write(tmp_path / "a.pdf", encrypted=True))


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7\n", b"no pdf", os.urandom(1000)])
def test_a_broken_one_is_an_error(tmp_path, data):
    (tmp_path / "a.pdf").write_bytes(data)
    with pytest.raises(ValueError, match="PDF cannot be read"):
        read(tmp_path / "a.pdf")


def test_one_cut_anywhere_is_read_or_an_error(tmp_path):
    whole = write(tmp_path / "a.pdf").read_bytes()
    for part in range(1, 8):
        (tmp_path / "b.pdf").write_bytes(whole[: len(whole) * part // 8])
        try:
            read(tmp_path / "b.pdf")
        except ValueError as error:
            assert "PDF cannot be read" in str(error)


def test_time_is_limited(tmp_path):
    with pytest.raises(ValueError, match=r"not read within 0.001 seconds"):
        read(write(tmp_path / "a.pdf"), seconds=0.001)


def test_size_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_builders.pdf, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="the limit is 10"):
        read(write(tmp_path / "a.pdf"))


def test_a_missing_parser_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a.pdf")
    # The system's own interpreter without site packages has no pypdfium2.
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ImportError, match=r"pip install 'nyx-retriever\[data\]'"):
        read(tmp_path / "a.pdf")


class Book(FPDF):
    def header(self):
        self.set_font("Helvetica", size=9)
        self.cell(text="The book of moths" if self.page_no() % 2 else f"Chapter {self.page_no() // 5 + 1}")
        self.ln(20)

    def footer(self):
        self.set_y(-15)
        self.cell(text=f"Page {self.page_no()} of 9")


def test_running_headers_and_footers_are_left_out(tmp_path):
    pdf, repeated = Book(), ["It lives by the lagoon.", "The book of moths"]
    for number in range(1, 10):
        pdf.add_page()
        pdf.set_font("Helvetica", size=12)
        for line in (f"Moth {number} flies by night.", *repeated):
            pdf.cell(text=line, new_x="LMARGIN", new_y="NEXT")
            pdf.ln(20)
    pdf.output(tmp_path / "a.pdf")
    items, told = read(tmp_path / "a.pdf")
    # What repeats within the page stays, and so does the title where it comes first.
    body = [line for number in range(1, 10) for line in [f"Moth {number} flies by night.", *repeated]]
    assert shown(items) == ["The book of moths", *body]
    assert told == [
        "header or footer of 4 pages: Chapter #",
        "header or footer of 9 pages: Page # of #",
        "header or footer of 5 pages: The book of moths",
    ]


def test_a_numbered_heading_atop_its_page_stays(tmp_path):
    pdf = FPDF()
    for number in range(1, 5):
        pdf.add_page()
        pdf.set_font("Helvetica", size=16)
        pdf.cell(text=f"Chapter {number}", new_x="LMARGIN", new_y="NEXT")
        pdf.ln(10)
        pdf.set_font("Helvetica", size=12)
        pdf.cell(text="Moths fly by night.", new_x="LMARGIN", new_y="NEXT")
        pdf.set_y(-15)
        pdf.cell(text=f"Page {number}")
    pdf.output(tmp_path / "a.pdf")
    items, told = read(tmp_path / "a.pdf")
    assert told == ["header or footer of 4 pages: Page #"]
    assert shown(items) == [line for number in range(1, 5) for line in (f"Chapter {number}", "Moths fly by night.")]


def test_few_pages_have_no_running_header(tmp_path):
    pdf = Book()
    for _ in range(2):
        pdf.add_page()
        pdf.cell(text="Moths fly by night.")
    pdf.output(tmp_path / "a.pdf")
    items, told = read(tmp_path / "a.pdf")
    words = " ".join(shown(items))
    assert "Page 1 of 9" in words and "Page 2 of 9" in words and "The book of moths" in words and not told
