"""Conversations run side by side, in bounded number, and come out in order whatever the engine does."""

import random
import threading
import time

import pytest

from modeling_nyx.content_nyx import text_of
from nyx.engines import ReaderError, Request
from nyx.reader import Reader
from tests.conftest import text


def request(words):
    return Request("s", [text(words)])


class Engine:
    """Answers with what it was asked, after a random while; what starts with `bad` fails."""

    identity, at_once = "test", 1

    def __init__(self, workers=4, at_once=1, latency=0.005):
        self.workers, self.at_once, self.latency = workers, at_once, latency
        self.asked, self.now, self.most, self.sizes = [], 0, 0, []
        self.lock, self.random = threading.Lock(), random.Random(0)

    def answer(self, requests):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.sizes.append(len(requests))
            self.asked += [text_of(each.content) for each in requests]
            pause = self.random.uniform(0, 2 * self.latency)
        time.sleep(pause)
        for place in reversed(range(len(requests))):
            words = text_of(requests[place].content)
            yield place, ReaderError(words) if words.startswith("bad") else f"re: {words}"
        with self.lock:
            self.now -= 1


def words(answers):
    return [str(answer) for answer in answers]


@pytest.mark.parametrize(("workers", "at_once"), [(1, 1), (1, 7), (5, 1), (3, 4)])
def test_in_order_whatever_the_engine(workers, at_once):
    engine = Engine(workers, at_once)
    asked = [f"{'bad' if number % 5 == 0 else ''}{number}" for number in range(100)]
    answers = words(Reader(engine).complete(map(request, asked)))
    assert answers == [each if each.startswith("bad") else f"re: {each}" for each in asked]
    assert engine.most == workers and max(engine.sizes) == at_once and sorted(engine.asked) == sorted(asked)


def test_input_is_read_as_there_is_room():
    read = []
    engine = Engine(workers=2)
    answers = Reader(engine).complete(request(read.append(number) or str(number)) for number in range(5000))
    for _ in range(10):
        next(answers)
    assert len(read) <= 10 + 4 * 2 + 512 + 2
    answers.close()
    time.sleep(0.05)
    asked = len(engine.asked)
    time.sleep(0.05)
    assert len(engine.asked) == asked < 600


def test_one_slow_answer_holds_up_none_of_the_next():
    class Slow(Engine):
        def answer(self, requests):
            if text_of(requests[0].content) == "0":
                time.sleep(0.3)
            yield from super().answer(requests)

    engine = Slow(workers=2, latency=0)
    answers = Reader(engine).complete(request(str(number)) for number in range(300))
    started = time.monotonic()
    assert next(answers) == "re: 0" and time.monotonic() - started < 0.6
    assert len(engine.asked) == 300


def test_the_same_is_asked_once_even_while_it_is_under_way():
    engine = Engine()
    answers = list(Reader(engine).complete(request(str(number % 3)) for number in range(60)))
    assert answers == [f"re: {number % 3}" for number in range(60)] and sorted(engine.asked) == ["0", "1", "2"]


def talk(name, turns):
    """Ask two things, then one after the other, each from the last answer; return everything heard."""
    heard = yield [request(f"{name} a"), request(f"{name} b")]
    for _ in range(turns):
        heard += yield [request(f"{name} {len(heard)} {str(heard[-1])[-5:]}")]
    return name, [str(answer) for answer in heard]


@pytest.mark.parametrize("workers", [1, 6])
def test_a_conversation_hears_its_own_answers(workers):
    alone = [list(Reader(Engine()).converse([talk(name, name % 4)]))[0] for name in range(30)]
    engine = Engine(workers)
    together = list(Reader(engine).converse(talk(name, name % 4) for name in range(30)))
    assert together == alone and engine.most == workers and len(together[3][1]) == 5


def test_conversations_may_ask_nothing_or_the_same_twice():
    def silent():
        return "silent"
        yield

    def empty():
        heard = yield []
        return heard

    def twice():
        heard = yield [request("x"), request("x"), Request("s", []), Request("s", [])]
        return words(heard)

    came = list(Reader(Engine()).converse([silent(), empty(), twice()]))
    assert came[:2] == ["silent", []] and came[2][:2] == ["re: x"] * 2
    assert all("Empty content" in each for each in came[2][2:])


def test_what_breaks_an_engine_breaks_the_run_and_keeps_what_came(tmp_path):
    class Breaks(Engine):
        def answer(self, requests):
            if text_of(requests[0].content) == "7":
                raise MemoryError("no room")
            yield from super().answer(requests)

    came = []
    with pytest.raises(MemoryError, match="no room"):
        came.extend(Reader(Breaks(1), cache=tmp_path / "a").complete(request(str(number)) for number in range(20)))
    engine = Engine()
    again = list(Reader(engine, cache=tmp_path / "a").complete(request(str(number)) for number in range(20)))
    assert again == [f"re: {number}" for number in range(20)] and sorted(map(int, engine.asked)) == list(range(7, 20))


def test_answers_are_kept_when_they_come_not_when_they_are_taken(tmp_path):
    answers = Reader(Engine(), cache=tmp_path / "a").complete(request(str(number)) for number in range(10))
    next(answers)
    time.sleep(0.2)
    engine = Engine()
    list(Reader(engine, cache=tmp_path / "a").complete(request(str(number)) for number in range(10)))
    assert engine.asked == []
