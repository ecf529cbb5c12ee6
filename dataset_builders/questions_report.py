"""What became of the pairs that a reader wrote: counts by step, modality and reason, as table, JSON and plot."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataset_builders.card import SPLITS
from dataset_builders.questions import MODALITIES

REPORT, PLOT = "report.json", "report.png"

# In their order; each may leave pairs out.
STEPS = {
    "questions": "more than asked for",
    "filter": "error filter",
    "refine": "refinement",
    "options": "options",
    "check": "answerability check",
    "twice": "same pair before",
    "split": "split",
}


@dataclass
class Report:
    """Counts by modality; `rejected` also has the requests for a chunk's questions from which no pair came."""

    chunks: Counter[str] = field(default_factory=Counter)
    sampled: Counter[str] = field(default_factory=Counter)
    rejected: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)

    def reject(self, step: str, modality: str, reason: str) -> None:
        self.rejected[step, modality, reason] += 1

    def left_after(self) -> dict[str, list[int]]:
        """Return how many pairs of each modality were written, and how many were left after each step."""
        lost = {
            step: [
                sum(n for (at, kind, _), n in self.rejected.items() if (at, kind) == (step, name))
                for name in MODALITIES
            ]
            for step in STEPS
        }
        left = [sum(n for (_, kind), n in self.kept.items() if kind == name) for name in MODALITIES]
        found: dict[str, list[int]] = {}
        for step in reversed(STEPS):
            found[step] = left
            left = [now + before for now, before in zip(left, lost[step], strict=True)]
        return {"written": left} | dict(reversed(found.items()))

    def table(self) -> Iterator[tuple[str, list[int]]]:
        """Yield lines of counts by modality: chunks, pairs left after each step, and what the splits got."""
        yield "chunks", [self.chunks[name] for name in MODALITIES]
        yield "chunks asked about", [self.sampled[name] for name in MODALITIES]
        for step, left in self.left_after().items():
            yield "pairs written" if step == "written" else f"left after: {STEPS[step]}", left
        for split in SPLITS:
            yield split, [self.kept[split, name] for name in MODALITIES]

    def reasons(self) -> dict[str, int]:
        """Return how often each reason was given, most frequent first."""
        counts = Counter[str]()
        for (step, _, reason), count in self.rejected.items():
            counts[f"{step}: {reason}"] += count
        return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))

    def facts(self) -> dict[str, Any]:
        return {name: dict(zip(MODALITIES, counts, strict=True)) for name, counts in self.table()} | {
            "left out": self.reasons()
        }

    def write(self, folder: Path) -> None:
        """Write `report.json` and `report.png`."""
        rows = [
            {"step": step, "modality": kind, "reason": reason, "count": count}
            for (step, kind, reason), count in sorted(self.rejected.items())
        ]
        value = {"modalities": MODALITIES, "counts": dict(self.table()), "left_out": rows}
        self._plot(folder / PLOT)
        aside = folder / f".{REPORT}.{os.getpid()}.partial"
        aside.write_text(json.dumps(value, indent=1) + "\n")
        os.replace(aside, folder / REPORT)

    def _plot(self, path: Path) -> None:
        figure_class = plotting()
        reasons, left = self.reasons(), self.left_after()
        figure = figure_class(figsize=(11, 1.6 + 0.3 * max(len(left), len(reasons))), layout="constrained")
        steps, why = figure.subplots(1, 2)
        names = ["written", *STEPS.values()]
        start = [0] * len(names)
        for place, kind in enumerate(MODALITIES):
            width = [counts[place] for counts in left.values()]
            steps.barh(names, width, left=start, label=kind)
            start = [a + b for a, b in zip(start, width, strict=True)]
        steps.invert_yaxis()
        steps.legend()
        steps.set_title("pairs left after each step")
        why.barh(list(reasons), list(reasons.values()), color="gray")
        why.invert_yaxis()
        why.set_title("left out, by reason")
        aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
        figure.savefig(aside, format="png", dpi=100)
        os.replace(aside, path)


def plotting() -> Any:
    """Return matplotlib's figure class. Raises `ImportError` without it: better before hours of asking."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("The report's plot needs matplotlib: pip install 'nyx-retriever[data]'") from error
    return Figure
