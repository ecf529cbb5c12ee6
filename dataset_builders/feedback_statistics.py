"""What became of the questions that were asked for feedback."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table


@dataclass
class FeedbackStatistics:
    """What became of the questions, and of the windows that were read for them."""

    questions: int = 0
    examples: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    passed: int = 0
    # By reason, numbers in it left out.
    unread: Counter[str] = field(default_factory=Counter)
    # Of the first window that passed, counted from 1, by how many questions.
    first_passing_rank: Counter[int] = field(default_factory=Counter)
    gold_known: int = 0
    not_gold: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, and the shares that they make."""
        return {
            "questions": self.questions,
            "examples": self.examples,
            "dropped": dict(sorted(self.dropped.items())),
            "share_discarded": _share(self.questions - self.examples, self.questions),
            "windows": self.windows,
            "windows_passed": self.passed,
            "windows_unread": dict(sorted(self.unread.items())),
            "first_passing_rank": {str(rank): count for rank, count in sorted(self.first_passing_rank.items())},
            "examples_with_gold": self.gold_known,
            "share_preferred_not_gold": _share(self.not_gold, self.gold_known),
        }

    def table(self) -> Table:
        """Show them, the ranks of the first passing windows too."""
        table = Table("Feedback", "", title=None)
        for name, value in self.as_dict().items():
            shown = ", ".join(f"{key}: {count}" for key, count in value.items()) if isinstance(value, dict) else value
            table.add_row(name.replace("_", " "), "–" if shown in (None, "") else str(shown))
        return table

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return f"{self.examples} examples; dropped: {reasons or 'none'}"


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
