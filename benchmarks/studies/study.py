"""What the studies share: how outcomes are pooled and compared, and their table, plot and JSON.

A study compares arms, things on which the answers to the same questions depend. It measures them in the world of each
seed, keeps that in `FOLDER/seedN/studies`, and pools the questions of all seeds. An arm written `name @ value` is a
point of a curve.
"""

import argparse
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.almanac import train_seed
from benchmarks.measure import about, in_common, in_short
from benchmarks.studies.world import DRY_WORLD, World
from dataset_builders.almanac import build
from evaluation.statistics import compare_seeds, in_words, interval, pooled
from nyx.metrics import mean
from train_scripts import stage1

RESULTS = Path(__file__).parents[1] / "results" / "studies"
Measured = dict[str, Any]  # "arms": outcomes by arm; "facts": what else was seen; "about": what measured them, kept

DRY = "dry"  # where in a folder dry runs lie


@dataclass(frozen=True)
class Study:
    """What a study measures in a world, which arms it compares by which metric, and how it is drawn."""

    name: str
    about: str | None
    measure: Callable[[World], Measured]
    compared: Sequence[tuple[str, str]] = ()
    metrics: Sequence[str] = ("recall@1", "recall@5", "answer EM")
    judged_by: str = "answer EM"
    axis: str = ""  # what the values of arms `name @ value` are
    scale: str = "linear"
    further: Callable[[list[Measured]], dict[str, Any]] | None = None  # what follows from all seeds, beside the arms
    pretrained: bool = True  # whether it needs what `benchmarks.almanac` trains

    def run(self, argv: Sequence[str] | None = None) -> None:
        """Measure what isn't there yet, and show, draw and keep the results."""
        parser = argparse.ArgumentParser(description=self.about, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
        parser.add_argument("--folder", type=Path, help="as of benchmarks.almanac; what is there is kept")
        parser.add_argument("--output", type=Path, help="where the JSON and the plot go")
        parser.add_argument("--dry", action="store_true", help=f"a tiny world, trained for a step, in FOLDER/{DRY}")
        args = parser.parse_args(argv)
        stage1.prepare()
        with tempfile.TemporaryDirectory() as aside:
            folder = args.folder or (Path(aside) if args.dry else Path("runs/benchmark"))
            folder = folder / DRY if args.dry else folder  # so that nothing of it is taken for what was measured
            output = args.output or (Path(aside) if args.dry else RESULTS)
            seeds = [self.measured(World(folder / f"seed{seed}", seed, args.dry)) for seed in args.seeds]
            origin = in_common([each["about"] for each in seeds])
            results = origin | {"seeds": args.seeds} | self.summary(seeds)
            output.mkdir(parents=True, exist_ok=True)
            (output / f"{self.name}.json").write_text(json.dumps(results, indent=1) + "\n")
            self.draw(results, output / f"{self.name}.png")
        self.show(results, Console())

    def measured(self, world: World) -> Measured:
        """Return what was measured in a world, now or before, and by what."""
        kept = world.folder / "studies" / f"{self.name}.json"
        if not kept.exists():
            command = f"python -m benchmarks.studies.{self.name}" + (" --dry" if world.dry else "")
            origin = about(command, "torch", "transformers")
            if self.pretrained:
                if world.dry:
                    build(world.data, seed=world.seed, **DRY_WORLD)
                train_seed(world.folder, world.seed, world.steps)
            found = {"about": origin} | self.measure(world)
            kept.parent.mkdir(exist_ok=True)
            aside = kept.with_suffix(".partial")
            aside.write_text(json.dumps(found))
            os.replace(aside, kept)
        return json.loads(kept.read_text())

    def summary(self, seeds: list[Measured]) -> dict[str, Any]:
        """Pool the seeds: every arm's means with 95 % intervals, and paired comparisons."""
        rows: dict[str, dict[str, Any]] = {}
        for arm, outcomes in seeds[0]["arms"].items():
            by_metric = {metric: [each["arms"][arm][metric] for each in seeds] for metric in outcomes}
            rows[arm] = {metric: _score(found) for metric, found in by_metric.items()}
            rows[arm]["by kind"] = _by_kind(pooled(by_metric[self.judged_by]))
        comparisons = [
            _compared(better, worse, metric, seeds) for better, worse in self.compared for metric in self.metrics
        ]
        questions = len(pooled([next(iter(each["arms"].values()))[self.judged_by] for each in seeds]))
        found = {"questions": questions, "arms": rows, "comparisons": [each for each in comparisons if each]}
        return found | (self.further(seeds) if self.further else {}) | {"facts": [each.get("facts") for each in seeds]}

    def sentences(self, results: dict[str, Any]) -> list[str]:
        """Say in words which differences are real."""
        return [each["words"] for each in results["comparisons"] if each["metric"] == self.judged_by]

    def show(self, results: dict[str, Any], console: Console) -> None:
        table = Table("", *self.metrics, title=f"{self.name}: {results['questions']} questions, 95 % intervals")
        for arm, row in results["arms"].items():
            table.add_row(arm, *(_cell(row.get(metric)) for metric in self.metrics))
        console.print(table)
        for sentence in self.sentences(results):
            console.print(f"- {sentence}", highlight=False)

    def as_markdown(self, results: dict[str, Any]) -> str:
        """Write the table, the comparisons, the plot, and what was run."""
        lines = [f"| | {' | '.join(self.metrics)} |", "|---" * (len(self.metrics) + 1) + "|"]
        for arm, row in results["arms"].items():
            lines.append(f"| {arm} | {' | '.join(_cell(row.get(metric)) for metric in self.metrics)} |")
        lines += ["", *(f"- {sentence}" for sentence in self.sentences(results)), ""]
        lines += [f"![{self.name}](results/studies/{self.name}.png)", ""]
        run = f"`{results['command']}`, {in_short(results['commit'])}"
        return "\n".join([*lines, f"{run}, seeds {results['seeds']}, {results['questions']} questions."])

    def draw(self, results: dict[str, Any], path: Path) -> None:
        """Draw every metric's means and intervals, as curves if the arms have values."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        width = 4 * len(self.metrics)
        figure, panels = pyplot.subplots(
            1, len(self.metrics), figsize=(width, 3.2), squeeze=False, layout="constrained"
        )
        for panel, metric in zip(panels[0], self.metrics, strict=True):
            for name, points in _curves(results["arms"], metric).items():
                means = [score["mean"] for _, score in points]
                spread = [[abs(score["interval"][end] - score["mean"]) for _, score in points] for end in (0, 1)]
                if self.axis:
                    panel.errorbar([float(x) for x, _ in points], means, spread, marker="o", capsize=3, label=name)
                else:
                    panel.errorbar(means, [name], xerr=spread, fmt="o", capsize=3, color="C0")
            panel.set(title=metric, xlabel=self.axis)
            if self.axis:
                panel.set_xscale(self.scale)
        if self.axis:
            panels[0][0].legend(fontsize="small")
        figure.savefig(path, dpi=110)
        pyplot.close(figure)


def _curves(arms: dict[str, Any], metric: str) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    curves: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for arm, row in arms.items():
        name, _, value = arm.partition(" @ ")
        if metric in row:
            curves[name].append((value, row[metric]))
    return curves


def _score(seeds: list[dict[str, float]]) -> dict[str, Any]:
    values = list(pooled(seeds).values())
    return {"mean": mean(values), "interval": interval(values), "seeds": [mean(each.values()) for each in seeds]}


def _by_kind(scores: dict[str, float]) -> dict[str, float]:
    kinds: dict[str, list[float]] = defaultdict(list)
    for question, score in scores.items():
        kinds[question.split("/")[1]].append(score)
    return {kind: round(mean(found), 4) for kind, found in kinds.items()}


def _compared(better: str, worse: str, metric: str, seeds: list[Measured]) -> dict[str, Any]:
    """Compare two arms by a metric; nothing, if one doesn't have it."""
    ours, theirs = ([each["arms"][arm].get(metric) for each in seeds] for arm in (better, worse))
    if None in ours or None in theirs:
        return {}
    found = compare_seeds(ours, theirs)
    words = in_words(found, f"*{better}*", f"*{worse}*", metric)
    return {"better": better, "worse": worse, "metric": metric, **asdict(found), "words": words}


def _cell(score: dict[str, Any] | None) -> str:
    if score is None:
        return "–"
    low, high = score["interval"]
    return f"{score['mean']:.3f} ({low:.3f}–{high:.3f})"
