"""Conversations with a reader that must answer in JSON: one retry, then a rejection that says why."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from dataset_builders.prompts import ask_again, misfit
from nyx.conversations import Conversation
from nyx.engines import ReaderError, Request

Found = TypeVar("Found")

NO_ANSWER = "the reader gave no answer"
NO_JSON = "the answer is no JSON"
NO_FIT = "the answer's JSON has another shape"

FENCE = re.compile(r"\A```\w*\s*(.*?)\s*```\Z", re.DOTALL)


class Rejected(ValueError):
    """Something is left out: at which step, for which of the reasons that are counted, and in detail."""

    def __init__(self, step: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{step}: {reason}")
        self.step, self.reason, self.detail = step, reason, detail


def asked(step: str, request: Request, read: Callable[[Any], Found]) -> Conversation[Found]:
    """Ask, and return what `read` makes of the answer's JSON; ask once more if that raises `Rejected`.

    Raises `Rejected` if the second answer is no better, or there is none.
    """
    try:
        return (yield from _asked(step, request, read))
    except Rejected as first:
        if first.reason == NO_ANSWER:
            raise
        told = first.detail or first.reason
    return (yield from _asked(step, ask_again(request, told), read))


def _asked(step: str, request: Request, read: Callable[[Any], Found]) -> Conversation[Found]:
    (answer,) = yield [request]
    if isinstance(answer, ReaderError):
        raise Rejected(step, NO_ANSWER, str(answer))
    assert request.schema is not None, "Only requests with a schema have an answer to read."
    fenced = FENCE.match(answer)
    try:
        value = json.loads(fenced[1] if fenced else answer)
        json.dumps(value, ensure_ascii=False).encode()  # fails for half a character, which no file holds
    except (ValueError, RecursionError) as error:
        raise Rejected(step, NO_JSON, f"{answer[:80]!r} is no JSON") from error
    if odd := misfit(value, request.schema):
        raise Rejected(step, NO_FIT, odd)
    return read(value)


def side_by_side(conversations: Sequence[Conversation[Found]]) -> Conversation[list[Found]]:
    """Lead several conversations as one: what they wait for at a time is asked together. Results in their order."""
    results: dict[int, Found] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(conversations)))
    while answers:
        waiting: dict[int, list[Request]] = {}
        for place, answer in answers.items():
            try:
                waiting[place] = conversations[place].send(answer)
            except StopIteration as end:
                results[place] = end.value
        came = iter((yield [request for requests in waiting.values() for request in requests]) if waiting else [])
        answers = {place: [next(came) for _ in requests] for place, requests in waiting.items()}
    return [results[place] for place in range(len(conversations))]
