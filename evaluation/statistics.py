"""How sure a score is, and whether a difference between two is real.

The unit is the question: what is paired, resampled and counted are questions. Scores of several seeds are averaged
for questions that they share, and pooled otherwise.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap

from nyx.metrics import mean

RESAMPLES = 9_999
BATCH = 1_000  # resamples in memory at once
FEW = 10  # below so many questions that differ, resampling them makes any lead look certain
LEVEL = 0.05  # below it, a difference is called real


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same questions.

    `difference`: of the means, with its 95 % interval. `won`, `lost`: questions on which the first scored higher, and
    lower. `p`: two-sided; exact McNemar for scores of 0 and 1, the sign test for fewer than `FEW` questions that
    differ, else from the bootstrap. `seeds`: each one's difference, if there were several.
    """

    difference: float
    interval: tuple[float, float]
    won: int
    lost: int
    p: float
    seeds: tuple[float, ...] = ()


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over questions (percentiles); the same for the same values.

    Values that are all alike leave nothing to resample: the interval is a point.
    """
    low, high = np.quantile(_resampled(values), [0.025, 0.975])
    return float(low), float(high)


def compare(better: Sequence[float], worse: Sequence[float]) -> Comparison:
    """Compare two systems' scores, question by question. Raises `ValueError` if they differ in number."""
    if len(better) != len(worse):
        raise ValueError(f"{len(better)} and {len(worse)} scores: expected one each of the same questions.")
    differences = np.asarray(better, dtype=float) - np.asarray(worse, dtype=float)
    won, lost = int((differences > 0).sum()), int((differences < 0).sum())
    means = _resampled(differences)
    low, high = np.quantile(means, [0.025, 0.975])
    binary = set(better) | set(worse) <= {0, 1}
    p = sign_test(won, lost) if binary or won + lost < FEW else _bootstrap_p(means)
    return Comparison(float(differences.mean()), (float(low), float(high)), won, lost, p)


def compare_seeds(better: Sequence[Mapping[str, float]], worse: Sequence[Mapping[str, float]]) -> Comparison:
    """Compare two systems, each run with the same seeds; a run's scores are by question.

    Raises `ValueError` if a seed's two runs are not about the same questions.
    """
    for number, (first, second) in enumerate(zip(better, worse, strict=True)):
        if first.keys() != second.keys():
            differ = len(first.keys() ^ second.keys())
            raise ValueError(f"The two runs of seed number {number} differ in {differ} questions.")
    ours, theirs = pooled(better), pooled(worse)
    found = compare(list(ours.values()), [theirs[question] for question in ours])
    each = tuple(mean(first.values()) - mean(second.values()) for first, second in zip(better, worse, strict=True))
    return Comparison(found.difference, found.interval, found.won, found.lost, found.p, each)


def pooled(seeds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return every question's score, averaged over the seeds that asked it."""
    found: dict[str, list[float]] = defaultdict(list)
    for scores in seeds:
        for question, score in scores.items():
            found[question].append(score)
    return {question: mean(scores) for question, scores in found.items()}


def spread(seeds: Sequence[float]) -> float:
    """Return the standard deviation over seeds, of the population that these are a sample of; 0 for a single one."""
    return float(np.std(seeds, ddof=1)) if len(seeds) > 1 else 0.0


def sign_test(won: int, lost: int) -> float:
    """Return the two-sided probability of a split at least this uneven if both sides were equally likely."""
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def in_words(comparison: Comparison, better: str = "The first", worse: str = "the second", score: str = "") -> str:
    """Say whether a difference is real, in one sentence; scores are shares, and told in points of 100."""
    points, low, high = (100 * value for value in (comparison.difference, *comparison.interval))
    real = comparison.p < LEVEL
    verdict = ("better" if points > 0 else "worse") if real else "no difference shown"
    seeds = f", ± {100 * spread(comparison.seeds):.1f} over {len(comparison.seeds)} seeds" if comparison.seeds else ""
    return (
        f"{better} against {worse}: {verdict}{f' in {score}' if score else ''}; {points:+.1f} points (95 % interval "
        f"{low:+.1f} to {high:+.1f}{seeds}), higher on {comparison.won} questions and lower on {comparison.lost}, "
        f"p = {_p(comparison.p)}."
    )


def _p(p: float) -> str:
    return f"{p:.2f}" if p >= 0.01 else f"{p:.1e}"


def _resampled(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return means of the values, drawn with replacement."""
    if not len(values):
        raise ValueError("No values: expected at least one question's score.")
    data = np.asarray(values, dtype=float)
    if (data == data[0]).all():
        return np.full(RESAMPLES, data[0])
    drawn = bootstrap(
        (data,), np.mean, n_resamples=RESAMPLES, batch=BATCH, vectorized=True, method="percentile", rng=0
    )
    return drawn.bootstrap_distribution


def _bootstrap_p(means: np.ndarray) -> float:
    """Return twice the share of resampled differences on the other side of 0; never 0, as many as they are."""
    side = min((means <= 0).sum(), (means >= 0).sum())
    return float(min(1.0, 2 * (side + 1) / (len(means) + 1)))
