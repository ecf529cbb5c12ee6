"""A reader that makes questions by a script: it answers by schema, and misbehaves where the script says so."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from dataset_builders import prompts
from nyx.engines import Answer, ReaderError, Request
from nyx.reader import INSTRUCTION, Reader

AGAIN = "An earlier answer could not be used"
PAGE = re.compile(r"Page: (.*?)(?:\n\nQuestion: (.*)\nAnswer: (.*?))?(?:\n\nAn earlier answer.*)?\Z", re.DOTALL)


def digest(words: str) -> int:
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4])


def script(system: str, words: str, misbehave: bool = True) -> str:
    """Answer a request by its instruction and the texts of its message, as a reader would that knows the page."""
    if system == INSTRUCTION:
        # The words that the question quotes are followed by its answer, if a document was shown.
        question = words.rsplit("Question: ", 1)[1]
        quoted = re.findall(r'"(.*?)"', question)
        after = words.split(quoted[0], 1)[1].split() if quoted and "Document: " in words else ["unknown"]
        return " ".join(after[:3])
    page, question, answer = PAGE.match(words).groups()
    if misbehave and (odd := odd_answer(system, page, AGAIN in words)) is not None:
        return odd
    if system == prompts.REFINE:
        return json.dumps({"answer": "" if answer.startswith("(") else " ".join(answer.split()[:3])})
    if system == prompts.DISTRACT:
        few = misbehave and digest(question) % 11 == 0
        return json.dumps(
            {"options": [answer, answer.upper() + ".", "wrong 1"] if few else [f"wrong {i}" for i in "123"]}
        )
    return json.dumps({"pairs": list(pairs(system, page, misbehave))})


def odd_answer(system: str, page: str, again: bool) -> str | None:
    """Prose at first, half a JSON whenever it is asked, another shape, nothing: for some pages."""
    kind = digest(system[-200:] + page) % 12
    if kind == 0 and not again:
        return "Of course! Here are the questions."
    return {1: '{"pairs": [{"question": "Wh', 2: '{"pairs": ["x"]}', 3: ""}.get(kind)


def pairs(system: str, page: str, misbehave: bool) -> Iterator[dict[str, str]]:
    words = re.sub(r"\s*<image\d>\s*", " ", page).split()
    marks = re.findall(r"<image\d>", page)
    shown = "" if not marks else f" beside {marks[0]}"
    if system == prompts.ASK_SEVERAL:
        shown = f" beside {marks[0]} and {marks[1]}"
    for start in (0, 4)[: 1 + (len(words) > 12)]:
        if len(words) > start + 4:
            quoted = " ".join(words[start : start + 3]).replace('"', "")
            yield {
                "question": f'Which words follow "{quoted}"{shown}?',
                "answer": " ".join(words[start + 3 : start + 10]),
            }
    if misbehave:
        yield {"question": "What does the author say in this document?", "answer": "little"}
        yield {"question": "How many moths are in <image9>?", "answer": "two"}
        yield {"question": "Who flies at night in June?", "answer": "(the page does not say)"}
        if len(words) > 12 and digest(page) % 5 == 0:  # after five others
            yield {"question": "Which pair is the sixth?", "answer": "this one"}


class ScriptedEngine:
    """Answers by `script` in this process, after a pause by chance."""

    identity = "scripted"
    at_once = 1

    def __init__(
        self, workers: int = 1, pause: float = 0.0, seed: int = 0, answer: Callable[[str, str], str] = script
    ) -> None:
        self.workers, self.pause, self.rng, self.script = workers, pause, Random(seed), answer
        self.asked: list[Request] = []

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for place, request in enumerate(requests):
            self.asked.append(request)
            time.sleep(self.pause * self.rng.random())
            said = self.script(request.system, spelt(request))
            yield place, said or ReaderError("The server's answer is empty.")


def spelt(request: Request) -> str:
    return "".join(item["text"] for item in request.content if item["type"] == "text")


def scripted_reader(cache: Path | None = None, **options: Any) -> Reader:
    return Reader(ScriptedEngine(**options), cache=cache)


def lead(conversation: Any, answer: Callable[[Request], Answer]) -> tuple[Any, list[Request]]:
    """Lead one conversation to its end; return its result and what it asked."""
    asked: list[Request] = []
    answers = None
    try:
        while True:
            requests = conversation.send(answers)
            asked += requests
            answers = [answer(request) for request in requests]
    except StopIteration as end:
        return end.value, asked
