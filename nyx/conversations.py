"""Many conversations with one engine, side by side, each answer from the cache if it is there."""

import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Any, TypeVar

from nyx.cache import AnswerCache
from nyx.engines import Answer, Engine, ReaderError, Request

Result = TypeVar("Result")
# Yields requests that may be asked together, gets their answers in the same order, and returns what it made of them.
Conversation = Generator[list[Request], list[Answer], Result]

AHEAD = 4  # requests waiting or under way, per worker: enough that none is idle while results are used
FINISHED = 512  # conversations that may wait, finished, for one before them


class Line:
    """One conversation: what it waits for, and what it came to."""

    def __init__(self, conversation: Conversation[Any]) -> None:
        self.conversation, self.over = conversation, False
        self.result: Any = None
        self.keys: list[str] = []
        self.answers: dict[str, Answer] = {}


class Switchboard:
    """Puts the requests of many conversations to an engine, and gives back the answers.

    Everything happens in the caller's thread, except what the engine and the cache do: answers are kept by the
    thread that got them, before anything else, so that a killed process loses none that came.
    """

    def __init__(self, engine: Engine, cache: AnswerCache) -> None:
        self.engine, self.cache = engine, cache
        self.ahead = max(AHEAD * engine.workers, engine.at_once)
        self.lines: deque[Line] = deque()  # in the order their results are due
        self.askers: dict[str, list[Line]] = {}  # by the key of what is not answered yet
        self.waiting: deque[tuple[str, Request]] = deque()
        self.under_way = 0  # calls
        self.closed = False
        self.calls: queue.SimpleQueue[list[tuple[str, Request]] | None] = queue.SimpleQueue()
        self.came: queue.SimpleQueue[tuple[str, Answer] | BaseException | None] = queue.SimpleQueue()

    def run(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """Yield what conversations come to, in their order; they are begun as there is room."""
        for _ in range(self.engine.workers):
            threading.Thread(target=self._work, daemon=True).start()
        try:
            begun = iter(conversations)
            more = True
            while more or self.lines:
                while more and len(self.askers) < self.ahead and len(self.lines) < self.ahead + FINISHED:
                    more = self._begin(next(begun, None))
                self._call()
                while self.lines and self.lines[0].over:
                    yield self.lines.popleft().result
                if self.lines and not self.lines[0].over:
                    self._take()
        finally:
            self.closed = True
            for _ in range(self.engine.workers):
                self.calls.put(None)

    def _begin(self, conversation: Conversation[Any] | None) -> bool:
        if conversation is None:
            return False
        line = Line(conversation)
        self.lines.append(line)
        self._go_on(line, None)
        return True

    def _go_on(self, line: Line, answers: list[Answer] | None) -> None:
        """Give a conversation its answers, and ask what it asks next, until that has to be waited for."""
        while True:
            try:
                # A generator takes nothing before its first request.
                requests = line.conversation.send(answers)  # type: ignore[arg-type]
            except StopIteration as end:
                line.over, line.result = True, end.value
                return
            line.answers.clear()
            line.keys = [self._ask(line, request) for request in requests]
            if len(line.answers) < len(set(line.keys)):
                return
            answers = [line.answers[key] for key in line.keys]

    def _ask(self, line: Line, request: Request) -> str:
        try:
            key = request.key(self.engine.identity)
        except ValueError as error:
            key = f"unreadable {len(line.answers)}"
            line.answers[key] = ReaderError(str(error))
            return key
        if key in self.askers:
            if line not in self.askers[key]:
                self.askers[key].append(line)
        elif (answer := self.cache.get(key)) is not None:
            line.answers[key] = answer
        else:
            self.askers[key] = [line]
            self.waiting.append((key, request))
        return key

    def _call(self) -> None:
        """Hand what waits to the workers: one call at a time if calls take many requests, so that they fill."""
        while self.waiting and self.under_way < max(1, self.ahead // self.engine.at_once):
            size = min(self.engine.at_once, len(self.waiting))
            self.calls.put([self.waiting.popleft() for _ in range(size)])
            self.under_way += 1

    def _take(self) -> None:
        """Wait for an answer, and let those go on that asked for it."""
        came = self.came.get()
        if isinstance(came, BaseException):
            raise came
        if came is None:
            self.under_way -= 1
            return
        key, answer = came
        for line in self.askers.pop(key):
            line.answers[key] = answer
            if len(line.answers) == len(set(line.keys)):
                self._go_on(line, [line.answers[each] for each in line.keys])

    def _work(self) -> None:
        """Answer calls, in a thread, until there are none; what goes wrong is raised where results are taken."""
        try:
            while (call := self.calls.get()) is not None and not self.closed:
                for place, answer in self.engine.answer([request for _, request in call]):
                    key = call[place][0]
                    kept = self.cache.keep(key, answer) if isinstance(answer, str) else answer
                    self.came.put((key, kept))
                    if self.closed:
                        return
                self.came.put(None)
        except BaseException as error:
            self.came.put(error)
