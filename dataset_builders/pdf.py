"""Turn a PDF into texts and pictures in reading order, in a process of its own.

A PDF is a program for a parser written in C: what crashes, hangs or swells there must not end a run over a thousand
others. So this file is a script too, and imports nothing of the package.
"""

import base64
import hashlib
import io
import json
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

MAX_BYTES = 256 * 2**20
MAX_MEMORY = 2 * 2**30
MAX_PICTURES = 128 * 2**20
MAX_PIXELS = 64_000_000
# Bullets, rules and corners of boxes are pictures in many a PDF.
MIN_SIDE = 16
SECONDS = 120
# The part of a page's height, above and below, where running headers and footers stand.
MARGIN = 0.12
# How much taller than the text a heading's letters are.
LARGER = 1.15
NUMBER = re.compile(r"\d+")
# What pdfium puts for a hyphen at the end of a line.
HYPHENS = ("\x02", "\ufffe", "\xad")

# Left, bottom, right, top.
Box = tuple[float, float, float, float]
Line = tuple[str, Box]


def read_items(path: Path, told: Callable[[str], None], seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Return paragraphs as texts and pictures as a file's bytes; `told` hears why one is left out.

    Raises `ValueError` for a PDF that is broken, locked, larger than 256 MiB, or takes more than 2 GiB or `seconds`;
    `ImportError` without pypdfium2.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"PDF of {path.stat().st_size} bytes; the limit is {MAX_BYTES}")
    try:
        done = subprocess.run(
            # -P: beside this file lies an html.py, which is not the standard library's.
            [sys.executable, "-P", __file__, path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"PDF not read within {seconds} seconds") from error
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    if "No module named 'pypdfium2'" in last:
        raise ImportError("PDF needs pypdfium2: pip install 'nyx-retriever[data]'")
    if done.returncode:
        raise ValueError(f"PDF cannot be read: {last or f'its reader ended with status {done.returncode}'}")
    items: list[dict[str, Any]] = []
    for line in done.stdout.splitlines():
        [(kind, value)] = json.loads(line).items()
        if kind == "dropped":
            told(value)
        else:
            items.append({"type": kind, kind: base64.b64decode(value) if kind == "image" else value})
    return items


def page_items(page: Any, lines: Sequence[Line], told: Callable[[str], None]) -> Iterator[tuple[str, Any]]:
    """Yield a page's paragraphs ("text", str), made of its lines, and pictures ("image", bytes).

    Texts come in the order of the file, which for columns is the better one; a picture after the last line that
    stands above its middle and shares some of its width.
    """
    after: dict[int, list[bytes]] = {}
    for (left, bottom, right, top), data in _pictures(page, told):
        above = [
            index
            for index, (_, box) in enumerate(lines)
            if box[1] > (bottom + top) / 2 and box[0] < right and left < box[2]
        ]
        after.setdefault(above[-1] if above else -1, []).append(data)
    words, before = "", None
    yield from (("image", data) for data in after.get(-1, ()))
    for index, (text, box) in enumerate(lines):
        if before and _is_new_paragraph(before, box):
            yield "text", words
            words = ""
        words = words[:-1] + text if words.endswith(HYPHENS) else f"{words} {text}".strip()
        before = box
        if index in after:
            yield "text", words
            words, before = "", None
            yield from (("image", data) for data in after[index])
    if words:
        yield "text", words


def without_running_lines(
    pages: Sequence[Sequence[Line]], margins: Sequence[tuple[float, float]], told: Callable[[str], None]
) -> list[list[Line]]:
    """Leave out headers and footers: the outermost lines of at least three pages, and of a third of all.

    They are compared by their words, as numbers count the pages; one without a number stays on its first page, whose
    title it may be, and one with another number than before wherever it is larger than the text: as "Chapter 2" is at
    the top of its page. `margins`: how far up each page the lower one goes, and from where on the upper.
    """
    outer = [_outermost(lines, *margin) for lines, margin in zip(pages, margins, strict=True)]
    letters = median(_height(line) for lines in pages for line in lines) if any(pages) else 0.0
    counts = Counter(words for lines in outer for words in {_words(text) for text, _ in lines})
    running = {words for words, count in counts.items() if count >= max(3, len(pages) / 3)}
    seen, gone = set[str](), set[str]()
    kept = []
    for lines, edge in zip(pages, outer, strict=True):
        left_out = {
            line
            for line in edge
            if _words(line[0]) in running
            and (line[0] in seen or (NUMBER.search(line[0]) and _height(line) <= LARGER * letters))
        }
        seen |= {text for text, _ in edge}
        gone |= {_words(text) for text, _ in left_out}
        kept.append([line for line in lines if line not in left_out])
    for words in sorted(gone):
        told(f"header or footer of {counts[words]} pages: {words:.100}")
    return kept


def _outermost(lines: Sequence[Line], low: float, high: float) -> list[Line]:
    """Return the lines in the margins that none stands above, or below, in the same one."""
    if not lines:
        return []
    _, lowest = min(lines, key=lambda line: line[1][1])
    _, highest = max(lines, key=lambda line: line[1][3])
    footer = [line for line in lines if line[1][3] < low and line[1][1] < lowest[3]]
    return footer + [line for line in lines if line[1][1] > high and line[1][3] > highest[1]]


def _height(line: Line) -> float:
    return line[1][3] - line[1][1]


def _words(text: str) -> str:
    return NUMBER.sub("#", text)


def _is_new_paragraph(before: Box, box: Box) -> bool:
    """Tell by the letters' height and the gap between two lines; a line well above the one before begins a column."""
    height, next_height = before[3] - before[1], box[3] - box[1]
    gap = before[1] - box[3]
    return abs(height - next_height) > (LARGER - 1) * height or not -2 * height < gap < 0.6 * height


def _lines(page: Any) -> Iterator[Line]:
    import pypdfium2.raw as pdfium

    text = page.get_textpage()
    units: list[tuple[int, int]] = []
    count = text.count_chars()
    for index in range(count + 1):
        unit = pdfium.FPDFText_GetUnicode(text, index) if index < count else 10
        if unit not in (10, 13):
            units += [(unit, index)] if unit else []
            continue
        line = b"".join(each.to_bytes(4, "little") for each, _ in units).decode("utf-32-le", "surrogatepass")
        # A letter beyond the first plane comes as two halves.
        line = " ".join(line.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore").split())
        if line:
            first, last = (text.get_charbox(units[place][1], loose=True) for place in (0, -1))
            yield line, (first[0], min(first[1], last[1]), last[2], max(first[3], last[3]))
        units = []


def _pictures(page: Any, told: Callable[[str], None]) -> Iterator[tuple[Box, bytes]]:
    import pypdfium2 as pdfium
    import pypdfium2.raw as raw

    for image in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE]):
        width, height = image.get_px_size()
        if min(width, height) < MIN_SIDE or width * height > MAX_PIXELS:
            told(f"picture of {width}×{height} pixels")
            continue
        try:
            yield image.get_bounds(), _file(image)
        except (pdfium.PdfiumError, ValueError, OSError) as error:
            told(f"picture of {width}×{height} pixels cannot be decoded: {error}")


def _file(image: Any) -> bytes:
    """Return the JPEG that a picture is kept as, or a PNG of what it looks like, with its mask."""
    from PIL import Image

    if image.get_filters() == ["DCTDecode"]:
        data = bytes(image.get_data())
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as opened:
            if opened.mode in ("RGB", "L"):  # whether a CMYK one is negative, only the PDF knows
                return data
    buffer = io.BytesIO()
    image.get_bitmap(render=True).to_pil().save(buffer, format="PNG")
    return buffer.getvalue()


def main() -> None:
    """Write the items of the PDF that is named, a JSON object a line."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(Path(sys.argv[1]))
    except pdfium.PdfiumError as error:
        sys.exit("it needs a password" if "password" in str(error) else str(error))
    numbers, pages, margins = [], [], []
    for number in range(len(document)):
        try:
            page = document[number]
            _, bottom, _, top = page.get_cropbox()
            pages.append(list(_lines(page)))
        except pdfium.PdfiumError as error:
            _told(f"page {number + 1}: {error}")
            continue
        numbers.append(number)
        margins.append((bottom + MARGIN * (top - bottom), top - MARGIN * (top - bottom)))
    seen, left = set[bytes](), MAX_PICTURES
    for number, lines in zip(numbers, without_running_lines(pages, margins, _told), strict=True):
        try:
            for kind, value in page_items(document[number], lines, _told):
                if kind == "image":
                    left -= _write_picture(value, seen, left)
                else:
                    _write(kind, value)
        except pdfium.PdfiumError as error:
            _told(f"page {number + 1}: {error}")


def _write_picture(data: bytes, seen: set[bytes], left: int) -> int:
    """Write a picture that has not come before, and return how much of the `left` bytes it takes."""
    if (key := hashlib.sha256(data).digest()) in seen:
        _told("picture came before in the PDF")
    elif left < len(data):
        _told(f"picture beyond the first {MAX_PICTURES} bytes of the PDF's")
    else:
        seen.add(key)
        _write("image", base64.b64encode(data).decode())
        return len(data)
    return 0


def _told(reason: str) -> None:
    _write("dropped", reason)


def _write(kind: str, value: str) -> None:
    sys.stdout.write(json.dumps({kind: value}) + "\n")


if __name__ == "__main__":
    main()
