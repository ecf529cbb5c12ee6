"""Write what the benchmarks measured into the documents, between their `<!-- name -->` marks.

python -m benchmarks.tables
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import almanac, encode
from benchmarks.measure import in_short
from benchmarks.studies import study

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
    return f"`{results['command']}`, {in_short(results['commit'])}"


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


Row = tuple[str, ...]  # what was measured, the rival's figure, ours, their ratio


def search_rows(results: dict[str, Any]) -> list[Row]:
    """Compare search with FAISS's: exact search in the largest corpus, graph and lists where they were built."""
    rows = []
    for size, each in results["sizes"].items():
        names = ["IndexHNSWFlat", "IndexIVFFlat"] + ["IndexFlatIP"] * (size == list(results["sizes"])[-1])
        rows += [row for name in names if name in each for row in _searches(f"{int(size):,} pages", name, each)]
    sweep = results["all dimensions"]
    name = f"{sweep['questions']} questions, {sweep['pages']:,} pages, by four dimensions"
    theirs, ours = (_spread(sweep["times"][each], "seconds") for each in ("IndexFlatIP a dimension", "one pass"))
    return [*rows, (name, f"FAISS `IndexFlatIP` for each {theirs}", ours, f"{sweep['IndexFlatIP / one pass']:.1f}")]


def _searches(pages: str, rival: str, each: dict[str, Any]) -> list[Row]:
    theirs, ours = each[rival], each["ours"]
    found = f", recall@10 {theirs['recall@10']:.3f}" if "recall@10" in theirs else ""
    rows = []
    for what in (key for key in each if key.startswith("ms ")):
        times, mine = each[what][rival], each[what]["ours"]
        rows.append(
            (
                f"{what.removeprefix('ms ')}, {pages}",
                f"FAISS `{rival}` {_spread(times, 'ms')}{found}",
                f"{_spread(mine, 'ms')}, recall@10 {ours['recall@10']:.3f}",
                f"{times['ms'] / mine['ms']:.1f}",
            )
        )
    held = [f"{side['MB held']:,.0f} MB, {side['seconds to build']:,.0f} s" for side in (theirs, ours)]
    ratio = f"{theirs['MB held'] / ours['MB held']:.1f} in memory" if ours["MB held"] else ""
    return [*rows, (f"memory and building, {pages}", *held, ratio)]


def encode_rows(results: dict[str, Any]) -> list[Row]:
    """Compare encoding with sentence-transformers at its best batch size, and with its defaults."""
    times, best = results["seconds"], results["rival's best"]
    one = next(batch for batch in times if batch.endswith(", batch 1"))
    name = f"encode {results['documents']} mixed documents, {results['tokens']:,} tokens"
    rows: list[Row] = []
    for what, batch, theirs, mine, ratio in (
        (name, best, best, "ours", results["ratio to its best"]),
        ("the same", encode.DEFAULT, encode.DEFAULT, "ours", results["ratio to its full defaults"]),
        (
            "the same of 8 pictures",
            one,
            "rival, repeated",
            "ours, repeated",
            results["ratio, repeated pictures"],
        ),
    ):
        rival = f"sentence-transformers, {batch}: {_spread(times[theirs], 'seconds')}"
        rows.append((what, rival, _spread(times[mine], "seconds"), f"{ratio:.1f}"))
    return rows


def train_step_rows(results: dict[str, Any]) -> list[Row]:
    """Compare a step of training with sentence-transformers' at its fastest mini-batch, and their memory."""
    precision = "bfloat16" if results["bf16"] else "float32"
    rows: list[Row] = []
    for vision, each in results["steps"].items():
        size = each["rival's mini-batch"]
        rival = f"sentence-transformers, mini-batch {size}: {_spread(each['rival'], 'seconds')}"
        for side in ("ours", "ours, graphs kept"):
            kept = side.removeprefix("ours")
            name = f"training step, {results['contents']} contents, {precision}, vision {vision}{kept}"
            rows.append((name, rival, _spread(each[side], "seconds"), f"{each[side]['times as fast']:.1f}"))
            theirs, ours = (results["memory"][vision][which] for which in ("rival", side))
            count = max(theirs, key=int)
            figures = (_peaks(theirs), _peaks(ours))
            rows.append(("its peak memory", *figures, f"{theirs[count]['peak'] / ours[count]['peak']:.1f}"))
    return rows


def _peaks(by_count: dict[str, dict[str, float]]) -> str:
    """Write peak memory by the triplets of a batch."""
    return ", ".join(f"{count} triplets {each['peak']:,.0f} MB" for count, each in by_count.items())


def loss_rows(results: dict[str, Any]) -> list[Row]:
    """Compare the Matryoshka loss, at every shape, with sentence-transformers' at its best mini-batch."""
    rows: list[Row] = []
    for shape, each in results["products"]["highest"].items():
        best = each["rival's best mini-batch"]
        theirs = f"sentence-transformers, mini-batch {best}: {_spread(each['times'][f'mini-batch {best}'], 'seconds')}"
        name = f"Matryoshka loss and gradients, {shape} × {results['dims'][0]}"
        rows.append((name, theirs, _spread(each["times"]["ours"], "seconds"), f"{each['rival / ours']:.1f}"))
        if peaks := results["peak MB"].get(shape):
            memory = (f"{peaks[side]:,.0f} MB" for side in ("rival", "ours"))
            rows.append(("its peak memory", *memory, f"{peaks['rival'] / peaks['ours']:.1f}"))
    return rows


def gpu_rows(results: dict[str, Any]) -> list[Row]:
    """Compare encoding on a GPU with sentence-transformers and transformers; show what a step takes."""
    encoded = results["encode"]
    name = f"Qwen2.5-VL-3B's shape, bfloat16, {results['device']}: encode {encoded['documents']} mixed documents"
    rows: list[Row] = []
    for rival in (each for each in ("sentence-transformers", "transformers") if each in encoded):
        each = encoded[rival]
        theirs = f"{rival}, batch {each['batch size']}: {each['seconds']:.3g} s"
        rows.append((name, theirs, f"{encoded['ours']['seconds']:.3g} s", f"{each['ours is times as fast']:.1f}"))
        name = "the same"
    alone = encoded["ours"]["least cosine with the same content alone"]
    rows.append(("least cosine of a vector with that of its content alone, random weights", "", f"{alone:.4f}", ""))
    for way, step in results.get("stage 1 step", {}).items():
        out = "out of memory" in step
        took = "out of memory" if out else f"{step['median seconds']:.3g} s, {step['peak memory, GiB']:.3g} GiB"
        rows.append((f"a step of the paper's stage 1, {step['tokens']:,} tokens, {way}", "", took, ""))
    return rows


# What the table of speed shows, from which results; those that were never measured are left out.
SPEED = {
    "encode": encode_rows,
    "gpu": gpu_rows,
    "train_step": train_step_rows,
    "search": search_rows,
    "loss": loss_rows,
}
NOT_IN_TURN = "; on the GPU not in turn: ours three times, then each rival once"


def speed_table(results: dict[str, dict[str, Any]]) -> str:
    """Write ours and the rivals' figures, and how they were measured."""
    measured = {name: results[name] for name in SPEED if name in results}
    lines = ["| | rival | ours | ratio |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for name, each in measured.items() for row in SPEED[name](each)]
    if "search" in measured:
        lines += ["", "Memory is a process's own: the vectors that ours maps from disk aren't counted."]
    lines += ["", "Medians, and least to most, of runs in turn on one machine:", ""]
    for name, each in measured.items():
        lines.append(f"- {almanac_command(each)}, {each['machine']}{NOT_IN_TURN * (name == 'gpu')}")
    return "\n".join(lines)


def _spread(times: dict[str, float], unit: str) -> str:
    """Write a median with its unit and spread."""
    least, most = times["least"], times["most"]
    return f"{times[unit]:.3g} {unit.removesuffix('econds')} ({least:.3g}–{most:.3g})"


def study_tables() -> dict[str, str]:
    """Write every study's table, by the name of its marks."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(study.RESULTS.glob("*.json"))}
    studies = {name: import_module(f"benchmarks.studies.{name}").STUDY for name in found}
    return {f"study {name}": studies[name].as_markdown(results) for name, results in found.items()}


def filled(path: Path, results: dict[str, dict[str, Any]]) -> str:
    """Return a document with everything between its marks as the results say."""
    tables = almanac.as_markdown(results["almanac"]["summary"])
    blocks = {
        "almanac": f"{almanac_about(results['almanac'])}\n\n{tables}",
        "reader": reader_table(results["almanac"]),
        "pages": pages_list(results["pages"]),
        "speed": speed_table(results),
        **study_tables(),
    }
    text = path.read_text()
    for name, block in blocks.items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        if start in text:
            before, rest = text.split(start)
            text = before + start + block + end + rest.split(end)[1]
    return text


def documents() -> list[Path]:
    names = ("README.md", "MODEL_CARD.md", "dataset_builders/almanac_vlm/README.md", "benchmarks/studies.md")
    return [ROOT / name for name in names]


def read_results() -> dict[str, dict[str, Any]]:
    paths = {name: almanac.RESULTS.with_name(f"{name}.json") for name in ("almanac", "pages", *SPEED)}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def main() -> None:
    results = read_results()
    for path in documents():
        path.write_text(filled(path, results))


if __name__ == "__main__":
    main()
