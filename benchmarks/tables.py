"""Write what the benchmarks measured into the documents, between their `<!-- name -->` marks.

python -m benchmarks.tables
"""

import json
from pathlib import Path
from typing import Any

from benchmarks import almanac, pages

ROOT = Path(__file__).parents[1]


def almanac_about(results: dict[str, Any]) -> str:
    """Say what was run: its command, commit and size."""
    return (
        f"{almanac_command(results)}, {len(results['seeds'])} seeds, {results['summary']['questions']} questions on\n"
        "species unseen in training, two CPU cores; the reader sees the first document only. *Stage 1 continued* and\n"
        "*gold labels* train for as many steps as stage 2. A page's *twin* is the same page with its pictures swapped."
    )


def reader_table(results: dict[str, Any]) -> str:
    """Write what the tiny VLM makes of the documents it is given."""
    summary, rows = results["summary"], results["summary"]["reader EM"]
    replaced = summary["reader EM, pictures replaced, visual questions"]
    scores = {
        "a document that answers": rows["gold document"],
        "a random other document": rows["random document"],
        "no document": rows["no document"],
        "visual questions, the document's pictures replaced": replaced,
    }
    lines = [f"| read, on unseen species ({summary['questions']} questions) | answer EM |", "|---|---|"]
    lines += [f"| {what} | {score:.3f} |" for what, score in scores.items()]
    return "\n".join(lines) + f"\n\nAnswers by greedy `.generate()`; {almanac_command(results)}."


def almanac_command(results: dict[str, Any]) -> str:
    return f"`{results['command']}`, commit `{results['commit'][:10]}`"


def pages_list(results: dict[str, Any]) -> str:
    """Write a line for each collection of real pages."""
    lines = [
        "Real pages, as they came (`python -m benchmarks.pages`, one CPU core; a document's rank is that of its best "
        "chunk):\n"
    ]
    for name, result in results.items():
        line = (
            f"- {name}: {result['pages']} pages → {result['chunks']} chunks with {result['pictures']} pictures at "
            f"{result['pages per second']} pages/s,\n  {result['chunks embedded per second']} chunks embedded/s"
        )
        if "questions" in result:
            bm25, ours = (result[system] for system in ("bm25", "tiny encoder"))
            line += (
                f"; {result['questions']} human questions, Recall@1 / @10 of BM25 {bm25['recall@1']:.3f} / "
                f"{bm25['recall@10']:.3f},\n  of the tiny encoder {ours['recall@1']:.3f} / {ours['recall@10']:.3f}"
            )
        lines.append(line + ".")
    return "\n".join(lines)


def filled(path: Path, results: dict[str, dict[str, Any]]) -> str:
    """Return a document with everything between its marks as the results say."""
    tables = almanac.as_markdown(results["almanac"]["summary"])
    blocks = {
        "almanac": f"{almanac_about(results['almanac'])}\n\n{tables}",
        "reader": reader_table(results["almanac"]),
        "pages": pages_list(results["pages"]),
    }
    text = path.read_text()
    for name, block in blocks.items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        if start in text:
            before, rest = text.split(start)
            text = before + start + block + end + rest.split(end)[1]
    return text


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "MODEL_CARD.md", ROOT / "dataset_builders" / "almanac_vlm" / "README.md"]


def read_results() -> dict[str, dict[str, Any]]:
    return {name: json.loads(module.RESULTS.read_text()) for name, module in (("almanac", almanac), ("pages", pages))}


def main() -> None:
    results = read_results()
    for path in documents():
        path.write_text(filled(path, results))


if __name__ == "__main__":
    main()
