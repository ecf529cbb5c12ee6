"""From records to tables: means with intervals, and every system compared with the first one."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from evaluation.records import ANSWERS, SCORES, Records
from evaluation.statistics import compare, in_words, interval
from evaluation.systems import CONTROLS
from nyx.metrics import mean

# Letters of a retriever's name in a terminal too narrow for all of it; the rest comes below.
NAME_WIDTH = 9
# What each system of a table has of its own; whatever else records are about, they share.
OWN = ("retriever", "revision")


def summarise(found: Sequence[Records]) -> list[dict[str, Any]]:
    """Return a table for each benchmark, reader and setting: what all of it was, and a row a system, in their order.

    A row has means by the names of scores, `interval` of each, `by_kind` and `unanswered`; `comparisons` are with the
    first system, of every score that both have. `without_gold` counts questions that name nothing of the corpus.
    """
    tables: dict[str, list[Records]] = defaultdict(list)
    for records in found:
        tables[str([(key, value) for key, value in sorted(records.about.items()) if key not in OWN])].append(records)
    return [_table(together) for together in tables.values()]


def _table(together: Sequence[Records]) -> dict[str, Any]:
    together = _told_apart(together)
    first, *others = together
    about = {key: value for key, value in first.about.items() if key not in (*OWN, "engine")}
    return {
        **about,
        "questions": len(first.rows),
        "without_gold": sum(not row.gold for row in first.rows),
        "retrievers": [_row(records) for records in together],
        "comparisons": [each for other in others for each in _comparisons(first, other)],
    }


def _told_apart(together: Sequence[Records]) -> list[Records]:
    """Add the beginning of its revision to a retriever's name that another one has too."""
    names = Counter(records.about["retriever"] for records in together)
    return [
        replace(records, about=records.about | {"retriever": f"{name} ({records.about['revision'][:8]})"})
        if names[name := records.about["retriever"]] > 1
        else records
        for records in together
    ]


def _row(records: Records) -> dict[str, Any]:
    row: dict[str, Any] = {key: records.about[key] for key in OWN}
    scores = {name: records.scores(name) for name in SCORES if _told(records, name)}
    scores = {name: values for name, values in scores.items() if values}
    row |= {name: mean(values.values()) for name, values in scores.items()}
    row["interval"] = {name: interval(list(values.values())) for name, values in scores.items()}
    row["by_kind"] = {name: _by_kind(records, values) for name, values in scores.items() if name in ANSWERS}
    return row | {"unanswered": sum(each.unanswered is not None for each in records.rows)}


def _told(records: Records, score: str) -> bool:
    """Tell whether a score means something: a control retrieves nothing."""
    return score in ANSWERS or records.about["retriever"] not in CONTROLS


def _by_kind(records: Records, values: dict[str, float]) -> dict[str, float]:
    groups = defaultdict(list)
    for row in records.rows:
        if row.id in values:
            groups[row.kind or row.modality].append(values[row.id])
    return {kind: mean(found) for kind, found in sorted(groups.items())}


def _comparisons(first: Records, second: Records) -> list[dict[str, Any]]:
    names = [each.about["retriever"] for each in (first, second)]
    found = []
    for score in SCORES:
        ours, theirs = first.scores(score), second.scores(score)
        if ours and ours.keys() == theirs.keys() and _told(first, score) and _told(second, score):
            comparison = compare(list(ours.values()), [theirs[question] for question in ours])
            words = in_words(comparison, names[0], names[1], score)
            found.append({"first": names[0], "second": names[1], "score": score, **asdict(comparison), "words": words})
    return found


def main_score(table: dict[str, Any]) -> str:
    """Return what comparisons in words are of: answers where there are some, else the first one found."""
    shown = {name for row in table["retrievers"] for name in row["interval"]}
    return next((name for name in ("accuracy", "em", "recall@1") if name in shown), "")


def told(table: dict[str, Any]) -> list[str]:
    """Say how many questions retrieval is not scored by, and the comparisons by the main score."""
    lacking = table["without_gold"]
    unscored = (
        f"{lacking} of {table['questions']} questions name no gold document of the corpus: no Recall, MRR or nDCG"
    )
    return [unscored] * bool(lacking) + [
        each["words"] for each in table["comparisons"] if each["score"] == main_score(table)
    ]


def title(table: dict[str, Any]) -> str:
    """Say what a table is of."""
    reader = f", read by {table['reader']}" if table["reader"] else ""
    return f"{table['benchmark']} ({table['split']}): {table['questions']} questions{reader}"


def settings(table: dict[str, Any]) -> str:
    """Say what the settings were, those that differ from none."""
    given = {**table["settings"]}
    documents = given.pop("documents", None)
    parts = []
    if documents is not None:
        parts.append(f"documents: {', '.join(f'{count} {source}'.strip() for source, count in documents.items())}")
    parts += [f"{name.replace('_', ' ')}: {value}" for name, value in given.items() if value]
    return "; ".join(parts)


def as_rich(table: dict[str, Any]) -> Table:
    """Show a table in a terminal, intervals below the means; in one of 80 columns nothing of it is cut."""
    names, *lines = lines_of(table, "\n")
    shown = Table(title=title(table), caption=settings(table) or None, box=SIMPLE_HEAD, padding=0)
    for place, name in enumerate(names):
        shown.add_column(name, overflow="fold", no_wrap=name in SCORES, min_width=None if place else NAME_WIDTH)
    for retriever, *values in lines:
        # Without their zeros seven scores leave room for names.
        shown.add_row(Text(retriever), *(Text(value.replace("0.", ".")) for value in values))
    return shown


def lines_of(table: dict[str, Any], between: str) -> list[list[str]]:
    """Spell a table: the names of its columns, then a line a system; `between` parts a mean from its interval."""
    rows = table["retrievers"]
    names = [name for name in SCORES if any(name in row for row in rows)]
    lines = [["retriever", *names]]
    lines += [[row["retriever"], *(cell(row, name, between) for name in names)] for row in rows]
    if any(row["unanswered"] for row in rows):
        for line, last in zip(lines, ["no answer", *(str(row["unanswered"]) for row in rows)], strict=True):
            line.append(last)
    return lines


def cell(row: dict[str, Any], name: str, between: str) -> str:
    """Spell a mean with its interval."""
    if name not in row:
        return "–"
    low, high = row["interval"][name]
    return f"{row[name]:.3f}{between}{low:.2f}–{high:.2f}"
