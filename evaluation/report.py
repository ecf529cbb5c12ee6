"""A report of an evaluation's folder: one page of tables and plots, and the section that a model's card takes."""

import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataset_builders.questions_report import plotting
from evaluation.records import read_all
from evaluation.tables import lines_of, main_score, settings, summarise, title, told

INTERVALS = "Means over questions, with 95 % bootstrap intervals. Compared question by question with the first row."
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}"
    "td,th{padding:.3rem .7rem;border-bottom:1px solid #ccc;text-align:left}img{max-width:100%}"
)


def write_report(folder: Path) -> list[Path]:
    """Write `report.md`, `report.html` and `results.md` from a folder's records, and return their paths.

    Raises `ValueError` if there are none.
    """
    tables = summarise(read_all(folder))
    plots = [plot(table) for table in tables]
    texts = {
        "report.md": f"# Evaluation\n\n{INTERVALS}\n\n" + "\n".join(map(as_markdown, tables, plots)),
        "report.html": as_html(tables, plots),
        "results.md": f"## Results\n\n{INTERVALS}\n\n" + "\n".join(map(as_markdown, tables)),
    }
    for name, text in texts.items():
        aside = folder / f".{name}.{os.getpid()}.partial"
        aside.write_text(text)
        os.replace(aside, folder / name)
    return [folder / name for name in texts]


def as_markdown(table: dict[str, Any], picture: bytes = b"") -> str:
    """Write one table: what it is of, its lines, the comparisons as sentences, and its plot if there is one."""
    names, *lines = [[_cell(value) for value in line] for line in lines_of(table, " ")]
    rows = [names, ["---"] * len(names), *lines]
    parts = [f"### {_cell(title(table))}", *([settings(table)] if settings(table) else [])]
    parts += ["\n".join(f"| {' | '.join(row)} |" for row in rows)]
    parts += ["\n".join(f"- {sentence}" for sentence in told(table))] if told(table) else []
    parts += [f"![{_cell(title(table))}]({_address(picture)})"] if picture else []
    return "\n\n".join(parts) + "\n"


def as_html(tables: Sequence[dict[str, Any]], plots: Sequence[bytes]) -> str:
    """Write all tables as a page that needs no other file."""
    parts = [f"<h1>Evaluation</h1><p>{INTERVALS}</p>"]
    for table, picture in zip(tables, plots, strict=True):
        names, *lines = [[html.escape(value) for value in line] for line in lines_of(table, " ")]
        head = "".join(f"<th>{name}</th>" for name in names)
        body = "".join(f"<tr>{''.join(f'<td>{value}</td>' for value in line)}</tr>" for line in lines)
        parts.append(f"<h2>{html.escape(title(table))}</h2><p>{html.escape(settings(table))}</p>")
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        parts.append(f"<ul>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in told(table))}</ul>")
        parts.append(f'<img alt="{html.escape(main_score(table))} of every retriever" src="{_address(picture)}">')
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
    head += "<title>Evaluation</title>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def plot(table: dict[str, Any]) -> bytes:
    """Draw the main score of every system, with its interval, as a PNG."""
    score = main_score(table)
    rows = [row for row in reversed(table["retrievers"]) if score in row]
    figure = plotting()(figsize=(8, 1.2 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        low, high = row["interval"][score]
        axes.plot([low, high], [place, place], color="gray")
        axes.plot([row[score]], [place], "o", color="black")
    axes.set_yticks(range(len(rows)), [row["retriever"].replace("$", r"\$") for row in rows])
    axes.set_xlabel(score)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _address(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _cell(value: str) -> str:
    return html.escape(value, quote=False).replace("|", "\\|").replace("\n", " ")
