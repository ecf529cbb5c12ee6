"""Retrieve, read, score: what a retriever is worth to the model that reads what it found."""

from collections.abc import Sequence
from dataclasses import dataclass

from modeling_nyx.content_nyx import Content
from nyx.metrics import accuracy, exact_match, mean, token_f1
from nyx.reader import Prompt, Reader


@dataclass(frozen=True)
class Answers:
    """The reader's answers and their scores, question by question."""

    texts: list[str]
    em: list[float]
    f1: list[float]
    accuracy: list[float]

    def scores(self) -> dict[str, float]:
        """Average the scores over the questions."""
        return {"answer_em": mean(self.em), "answer_f1": mean(self.f1), "answer_accuracy": mean(self.accuracy)}


def rag(
    reader: Reader,
    questions: Sequence[Content],
    golds: Sequence[list[str]],
    documents: Sequence[list[Content]],
    show_progress: bool = False,
) -> Answers:
    """Answer each question from its documents, best first, and score the answers against the gold ones."""
    prompts = [Prompt(list(found), question) for question, found in zip(questions, documents, strict=True)]
    texts = reader.answer(prompts, show_progress=show_progress)
    pairs = list(zip(texts, golds, strict=True))
    return Answers(
        texts,
        [exact_match(text, gold) for text, gold in pairs],
        [token_f1(text, gold) for text, gold in pairs],
        [accuracy(text, gold) for text, gold in pairs],
    )
