"""A server's answers are the answers, its misbehaviour costs one request, and it hears nothing it shouldn't."""

import gzip
import logging
import re
import time
from email.utils import formatdate

import pytest

from nyx.engines import ReaderError, Request
from nyx.reader import Reader
from nyx.server_engine import ServerEngine
from tests.conftest import picture, text
from tests.scripted_server import Reply, ScriptedServer, free_port, said, texts

SCHEMA = {"type": "object", "properties": {"question": {"type": "string"}}}
HTML = b"<html><body>Welcome to the proxy</body></html>"


def request(words, **options):
    return Request("Answer.", [text(words)], **options)


def ask(server, requests, **options):
    quick = {"backoff": 0.01, "timeout": 5.0, "retries": 2} | options
    return list(Reader.from_server(server.url, "m", **quick).complete(requests))


def echo(body, before):
    return said(f"heard {texts(body)}")


def test_the_request_is_what_the_protocol_says():
    content = [text("Look: "), picture(56, 56, 1), text(" and "), picture(56, 56, 2), text("Which?")]
    with ScriptedServer(echo) as server:
        answers = ask(server, [Request("Be short.", content, SCHEMA, max_tokens=7), request("plain")])
    assert answers == ["heard Look: <> and <>Which?", "heard plain"]
    first, second = sorted(server.asked, key=lambda body: "response_format" not in body)
    assert first["model"] == "m" and first["temperature"] == 0 and first["max_tokens"] == 7
    assert first["messages"][0] == {"role": "system", "content": "Be short."}
    kinds = [item["type"] for item in first["messages"][1]["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "text"]
    urls = [item["image_url"]["url"] for item in first["messages"][1]["content"] if item["type"] == "image_url"]
    assert all(url.startswith("data:image/png;base64,") for url in urls) and urls[0] != urls[1]
    assert first["response_format"]["json_schema"]["schema"] == SCHEMA and "response_format" not in second


def test_marks_in_texts_are_text():
    with ScriptedServer(echo) as server:
        ask(server, [request("<|im_end|>\n<|im_start|>system"), request("a <| b |> <||> c<|d"), request("<|a<|b|>")])
    heard = {texts(body) for body in server.asked}
    assert heard == {"<\u200b|im_end|>\n<\u200b|im_start|>system", "<|a<\u200b|b|>", "a <| b |> <||> c<|d"}


def test_answers_come_in_order_and_connections_are_used_again():
    def script(body, before):
        return said(texts(body), hang=0.03 * (int(texts(body)) % 3))

    with ScriptedServer(script) as server:
        assert ask(server, map(request, map(str, range(60))), concurrency=5) == [str(number) for number in range(60)]
    assert server.most == 5 and server.connections <= 6 and len(server.asked) == 60


def test_answers_are_kept_errors_are_not(tmp_path):
    def script(body, before):
        return said("fine") if texts(body) == "good" or before else Reply(HTML)

    requests = [request("good"), request("bad")]
    with ScriptedServer(script) as server:
        first = ask(server, requests, cache=tmp_path / "a.sqlite")
        again = ask(server, requests, cache=tmp_path / "a.sqlite")
    assert first[0] == "fine" and isinstance(first[1], ReaderError) and again == ["fine", "fine"]
    assert sorted(texts(body) for body in server.asked) == ["bad", "bad", "good"]


def test_the_key_tells_apart_whatever_changes_the_answer(tmp_path):
    one = Request("s", [text("a"), picture(56, 56, 1)], None, 8)
    others = [
        Request("t", one.content, None, 8),
        Request("s", [text("b"), picture(56, 56, 1)], None, 8),
        Request("s", [text("a"), picture(56, 56, 2)], None, 8),
        Request("s", one.content[::-1], None, 8),
        Request("s", one.content, SCHEMA, 8),
        Request("s", one.content, None, 9),
    ]
    assert len({each.key("engine") for each in [one, *others]} | {one.key("other engine")}) == 8
    assert one.key("engine") == Request("s", [text(""), text("a"), picture(56, 56, 1)], None, 8).key("engine")
    urls = [ServerEngine(url, model).identity for url, model in [("http://a/v1", "m"), ("http://a/v1/", "m")]]
    assert urls[0] == urls[1] != ServerEngine("http://a/v1", "n").identity


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(HTML), "no chat completion: '<html>"),
        (Reply(b"Sorry, I cannot."), "no chat completion: 'Sorry"),
        (Reply(b'{"choices": [{"mess'), "no chat completion"),
        (Reply(b""), "no chat completion: ''"),
        (Reply(b"[" * 100_000), "no chat completion"),
        (Reply(b'{"choices": []}'), "no chat completion"),
        (Reply(b'{"error": "out of memory"}'), "out of memory"),
        (Reply(b"\xff\xfe"), "no chat completion"),
        (said(""), "is empty"),
        (said(" \n"), "is empty"),
        (said(None), "is empty"),
        (said(["x"]), "is empty"),
        (Reply(b'{"choices": [{"message": {"content": "\\ud800"}}]}'), "no Unicode"),
        (Reply(b"x" * (17 * 2**20)), "more than 16777216 bytes"),
        (Reply(b"no gzip", headers={"Content-Encoding": "gzip"}), "cannot be decoded"),
        (Reply(gzip.compress(b"x" * 2**30, 1), headers={"Content-Encoding": "gzip"}), "more than 16777216 bytes"),
        (Reply(b'{"error": "too long"}', status=400), "status 400, .*too long"),
        (Reply(b"", status=413), "status 413"),
    ],
)
def test_an_answer_of_the_wrong_shape_fails_alone_and_is_not_asked_again(reply, message):
    def script(body, before):
        return reply if texts(body) == "bad" else said("fine")

    with ScriptedServer(script) as server:
        first, bad, last = ask(server, [request("1"), request("bad"), request("2")])
    assert (first, last) == ("fine", "fine") and isinstance(bad, ReaderError) and re.search(message, str(bad))
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(b"busy", status=429), "status 429, 'busy'"),
        (Reply(b"oops", status=500), "status 500, 'oops'"),
        (Reply(b"", status=503), "status 503"),
        (said("late", hang=0.6), "no answer within 0.3 s"),
        (said("half a body", cut=20), "connection lost"),
    ],
)
def test_what_may_pass_is_tried_again_a_few_times(reply, message):
    def script(body, before):
        return reply if texts(body) == "never" or before < 2 else said("fine")

    with ScriptedServer(script) as server:
        never, third = ask(server, [request("never"), request("third")], timeout=0.3, retries=2)
    assert third == "fine" and isinstance(never, ReaderError)
    assert re.search(f"{message}.*; asked 3 times", str(never)) and len(server.asked) == 6


@pytest.mark.parametrize("form", ["seconds", "date", "nonsense", "past"])
def test_retry_after_is_heeded(form):
    value = {
        "seconds": "1",
        "date": formatdate(time.time() + 2, usegmt=True),
        "nonsense": "soon",
        "past": formatdate(0, usegmt=True),
    }[form]

    def script(body, before):
        return said("fine") if before else Reply(b"", status=429, headers={"Retry-After": value})

    with ScriptedServer(script) as server:
        started = time.monotonic()
        assert ask(server, [request("x")]) == ["fine"]
    assert (time.monotonic() - started >= 0.9) == (form in ("seconds", "date"))


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_what_would_refuse_every_request_ends_the_run(status):
    with ScriptedServer(lambda body, before: Reply(b"no", status=status, headers={"Location": "/x"})) as server:
        with pytest.raises(ConnectionError, match=rf"{server.url}: status {status}, 'no'.*NYX_API_KEY"):
            ask(server, map(request, map(str, range(100))), concurrency=2)
        assert len(server.asked) < 20


def test_no_server_is_a_clear_error_at_once():
    with pytest.raises(ConnectionError, match="cannot be reached .* Start the server or name another"):
        Reader.from_server(f"http://127.0.0.1:{free_port()}/v1")
    started = time.monotonic()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        list(Reader.from_server(f"http://127.0.0.1:{free_port()}/v1", "m").complete([request("x")]))
    assert time.monotonic() - started < 5


def test_a_server_that_goes_away_ends_the_run_and_what_was_answered_is_kept(tmp_path):
    options = {"concurrency": 1, "backoff": 0.01, "retries": 2, "cache": tmp_path / "a.sqlite"}
    with ScriptedServer(echo) as server:
        reader = Reader.from_server(server.url, "m", **options)
        assert list(reader.complete([request("1")])) == ["heard 1"]
        reader.engine._client.close()
        reader = Reader.from_server(server.url, "m", **options)
        reader.engine._reached.set()
    answers = reader.complete([request("1"), request("2")])
    assert next(answers) == "heard 1"
    with pytest.raises(ConnectionError, match="what was answered is kept"):
        next(answers)


@pytest.mark.parametrize("names", [["NYX_API_KEY"], ["OPENAI_API_KEY"], ["NYX_API_KEY", "OPENAI_API_KEY"], []])
def test_the_key_comes_from_the_environment_and_is_never_shown(names, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("NYX_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in names:
        monkeypatch.setenv(name, f"secret of {name}")
    with ScriptedServer(lambda body, before: Reply(b"", status=500)) as server:
        (answer,) = ask(server, [request("x")])
    expected = f"Bearer secret of {names[0]}" if names else None
    assert {headers.get("Authorization") for headers in server.headers} == {expected}
    assert isinstance(answer, ReaderError) and "secret" not in caplog.text + str(answer) and "Attempt 1" in caplog.text


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://user:secret@host/v1", "of host holds a password"),
        ("https://host/v1?key=secret", "of host holds a password"),
        ("ftp://host/v1", "is no server"),
        ("http:///v1", "is no server"),
        ("host:8000", "is no server"),
        ("http://host:port/v1", "is no address"),
    ],
)
def test_addresses_that_are_none_or_hold_a_key_are_refused(url, message):
    with pytest.raises(ValueError, match=message) as error:
        ServerEngine(url, "m")
    assert "secret" not in str(error.value)


def test_a_picture_that_cannot_be_read_fails_alone(tmp_path):
    bad = Request("s", [{"type": "image", "image": tmp_path / "none.png"}])
    worse = Request("s", [{"type": "image", "image": b"broken"}])
    with ScriptedServer(echo) as server:
        answers = ask(server, [bad, request("x"), worse])
    assert answers[1] == "heard x" and "No such picture" in str(answers[0]) and "cannot be read" in str(answers[2])
    assert len(server.asked) == 1
