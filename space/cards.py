"""Everything that is shown as HTML, and the only place where it is written: texts escaped, pictures encoded anew.

A page that is found may be anybody's. No text of it becomes markup, and a picture is its pixels, inside the page's own
HTML: nothing is loaded from anywhere.
"""

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any

from modeling_nyx import load_image
from modeling_nyx.content_nyx import Content
from nyx.index import Hit

SIDE = 640  # pixels
LONGEST = 4000  # characters of a text


def results(hits: Sequence[Hit], elsewhere: Sequence[Hit] | None = None) -> str:
    """Show results as cards; with `elsewhere`, each says which rank it has there."""
    ranks = None if elsewhere is None else {hit.id: rank for rank, hit in enumerate(elsewhere, 1)}
    return f'<div class="nyx-cards">{"".join(_card(rank, hit, ranks) for rank, hit in enumerate(hits, 1))}</div>'


def _card(rank: int, hit: Hit, ranks: dict[str, int] | None) -> str:
    note = ""
    if ranks is not None:
        there = ranks.get(hit.id)
        note = f'<span class="nyx-note">{"only here" if there is None else f"other list: {there}"}</span>'
    return (
        f'<article class="nyx-card" data-id="{escape(hit.id)}"><header><span class="nyx-rank">{rank}</span>'
        f'<span class="nyx-source">{_source(hit.source)}</span>{note}'
        f'<span class="nyx-score" title="cosine">{hit.score:.3f}</span></header>'
        f'<div class="nyx-flow">{flow(hit.content)}</div></article>'
    )


def _source(source: str | None) -> str:
    shown = escape(source or "no source")
    if (source or "").lower().startswith(("https://", "http://")):
        return f'<a href="{shown}" target="_blank" rel="noopener noreferrer nofollow">{shown}</a>'
    return shown


def flow(content: Content) -> str:
    """Show texts and pictures as they follow one another."""
    parts, pictures = [], 0
    for item in content:
        if item["type"] == "text":
            parts.append(f"<span>{escape(item['text'][:LONGEST])}{'…' if len(item['text']) > LONGEST else ''}</span>")
        else:
            pictures += 1
            parts.append(f'<img src="{data_uri(item["image"])}" alt="picture {pictures}">')
    return " ".join(parts)


def preview(content: Content) -> str:
    """Show how a question will be read."""
    return f'<div class="nyx-preview"><b>Read as</b> <span class="nyx-flow">{flow(content)}</span></div>'


def notice(words: str, kind: str = "note") -> str:
    """Show a plain line: a note, or what is missing."""
    return f'<p class="nyx-{kind}" role="status">{escape(words)}</p>'


def timing(count: int, of: int, reading: float, rows: Sequence[tuple[int, int, float]], chosen: int) -> str:
    """Show what a search took (seconds), and each dimension's bytes and seconds, the chosen one marked."""
    told = "".join(
        f'<tr class="{"nyx-chosen" if dim == chosen else "nyx-other"}"><th scope="row">{dim}</th><td>{size(held)}</td>'
        f"<td>{seconds * 1e3:.2f} ms</td></tr>"
        for dim, held, seconds in rows
    )
    return (
        f'<div class="nyx-timing"><p class="nyx-note" role="status">{count} of {of} pages · question embedded in '
        f"{reading * 1e3:.0f} ms</p><table><thead><tr><th scope='col'>Dimensions</th><th scope='col'>Index</th>"
        f"<th scope='col'>Search</th></tr></thead><tbody>{told}</tbody></table></div>"
    )


def answers(said: Sequence[tuple[Sequence[int], str]]) -> str:
    """Show the reader's answers, the last first: from which documents, by rank, and what."""
    rows = []
    for place, (ranks, answer) in enumerate(reversed(said)):
        given = ", ".join(map(str, ranks)) or "no document"
        kind = "nyx-answer" if place == 0 else "nyx-answer nyx-before"
        rows.append(f'<div class="{kind}"><span>{escape(answer) or "—"}</span><small>from {given}</small></div>')
    return f'<div role="status">{"".join(rows)}</div>'


def left_out(reasons: Sequence[tuple[str, str]]) -> str:
    """List what could not be used, with why."""
    items = "".join(f"<li><b>{escape(source)}</b> {escape(reason)}</li>" for source, reason in reasons)
    return f'<ul class="nyx-left-out">{items}</ul>' if items else ""


def size(count: int) -> str:
    """Write bytes as people read them."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def data_uri(image: Any) -> str:
    """Encode a picture's pixels anew, small enough for a page, as its own address."""
    return _data_uri(image) if isinstance(image, bytes) else _encode(image)


@lru_cache(maxsize=1024)
def _data_uri(data: bytes) -> str:
    return _encode(data)


def _encode(image: Any) -> str:
    shown, buffer = load_image(image).copy(), io.BytesIO()
    shown.thumbnail((SIDE, SIDE))
    shown.save(buffer, format="JPEG", quality=90, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
