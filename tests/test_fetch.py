"""Pictures come from public hosts alone, within limits, and once. The hosts are servers on this machine."""

import json
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import dataset_builders.fetch
from dataset_builders.fetch import Fetcher, FetchError, fetch
from dataset_builders.sources import read_pages
from modeling_nyx.images_nyx import image_key
from tests.test_sources import png


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):  # noqa: C901
        counts = self.server.counts
        counts[self.path] += 1
        name, _, argument = self.path.strip("/").partition("/")
        if name == "to":
            self.answer(302, b"", Location=argument)
        elif name == "shy" and counts[self.path] < 3:
            self.answer(503, b"later")
        elif name == "status":
            self.answer(int(argument), b"no")
        elif name == "long":
            self.answer(200, b"a", **{"Content-Length": "99999999999"})
        elif name == "endless":
            self.send_response(200)
            self.end_headers()
            while self.wfile.write(b"a" * 65536):
                pass
        elif name in ("drip", "drip-head"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if name == "drip" else b"X: "))
            for _ in range(100):
                self.wfile.write(b"a")
                time.sleep(0.05)
        else:
            self.answer(200, png())

    def answer(self, status, data, **headers):
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.counts = Counter()
    server.handle_error = lambda *arguments: None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def test_a_picture_is_fetched_once(server, tmp_path):
    for _ in range(2):
        fetcher = Fetcher(tmp_path, private=True)
        fetcher.begin([f"{server.address}/a.png", f"{server.address}/b.png", f"{server.address}/a.png"])
        for name in ("a", "b", "a"):
            assert fetcher(f"{server.address}/{name}.png").read_bytes() == png()
    assert server.counts == {"/a.png": 1, "/b.png": 1}


def test_what_is_refused_for_good_is_not_asked_again(server, tmp_path):
    for _ in range(2):
        with pytest.raises(FetchError, match="status 404"):
            Fetcher(tmp_path, private=True)(f"{server.address}/status/404")
    assert server.counts == {"/status/404": 1}


def test_only_what_may_pass_is_tried_again(server, tmp_path):
    assert Fetcher(tmp_path, private=True)(f"{server.address}/shy").read_bytes() == png()
    assert server.counts["/shy"] == 3
    with pytest.raises(FetchError, match="status 500"):
        Fetcher(tmp_path, private=True)(f"{server.address}/status/500")
    assert server.counts["/status/500"] == 3
    assert not list(tmp_path.rglob("*.refused")) and not list(tmp_path.rglob("*.partial"))


LOCAL = ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"]
OTHERS = [
    "169.254.169.254",
    "10.0.0.1",
    "100.64.0.1",
    "[::1]",
    "[fc00::1]",
    "[fe80::1]",
    "224.0.0.1",
    "[64:ff9b::7f00:1]",
]


@pytest.mark.parametrize("host", [*LOCAL, *OTHERS, "[2002:7f00:1::]", "[64:ff9b::7f00:1]"])
def test_no_private_address_is_asked(server, host):
    with pytest.raises(FetchError, match="no public address|odd address"):
        fetch(f"http://{host}:{server.server_port}/a.png")
    assert not server.counts


def test_a_redirect_to_a_private_address_is_refused(server, monkeypatch):
    real = dataset_builders.fetch._is_public
    # 127.0.0.2 stands for a public host that sends on to a private one.
    monkeypatch.setattr(dataset_builders.fetch, "_is_public", lambda ip: ip == "127.0.0.2" or real(ip))
    public = ThreadingHTTPServer(("127.0.0.2", 0), Handler)
    public.counts = Counter()
    threading.Thread(target=public.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    address = f"http://127.0.0.2:{public.server_port}"
    assert fetch(f"{address}/to/{address}/a.png") == png()
    with pytest.raises(FetchError, match="127.0.0.1, no public address"):
        fetch(f"{address}/to/{server.address}/a.png")
    with pytest.raises(FetchError, match="by file, expected"):
        fetch(f"{address}/to/file:///etc/passwd")
    assert not server.counts
    public.shutdown()
    public.server_close()


def test_one_private_record_is_enough_to_refuse_a_name(monkeypatch):
    records = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: records)
    with pytest.raises(FetchError, match=r"10.0.0.1, no public address"):
        fetch("http://example.org/a.png")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("file:///etc/passwd", "by file"),
        ("gopher://a/", "by gopher"),
        ("http://user:word@example.org/", "password"),
        ("http://", "expected http"),
        ("http://a\x00b/", "odd address"),
    ],
)
def test_odd_addresses(address, message):
    with pytest.raises(FetchError, match=message):
        fetch(address)


def test_limits(server, monkeypatch):
    monkeypatch.setattr(dataset_builders.fetch, "MAX_BYTES", 200_000)
    for name in ("long", "endless"):
        with pytest.raises(FetchError, match="of more than 200000 bytes"):
            fetch(f"{server.address}/{name}", private=True)
    for name in ("drip", "drip-head"):
        start = time.monotonic()
        with pytest.raises(FetchError, match="within 0.3 seconds"):
            fetch(f"{server.address}/{name}", private=True, seconds=0.3)
        assert time.monotonic() - start < 2
    with pytest.raises(FetchError, match="more than 5 redirects"):
        fetch(f"{server.address}/to//to/x", private=True)


def read(source, fetcher):
    left_out = []
    return list(read_pages(source, lambda _, reason: left_out.append(reason), fetcher)), left_out


def test_the_pictures_of_rows_are_fetched(server, tmp_path):
    rows = [{"texts": [f"{number}", None], "images": [None, f"{server.address}/{number}.png"]} for number in range(40)]
    rows[3]["images"][1] = f"{server.address}/status/404"
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for _ in range(2):
        documents, left_out = read(tmp_path / "a.jsonl", Fetcher(tmp_path / "fetched", private=True))
        assert [page.content[0]["text"] for page in documents] == [f"{number}" for number in range(40)]
        pictures = [item["image"] for page in documents for item in page.content[1:]]
        assert [image_key(picture) for picture in pictures] == [image_key(png())] * 39
        assert left_out == [f"remote picture answered with status 404: {server.address}/status/404"]
    assert set(server.counts.values()) == {1} and len(server.counts) == 40


def test_the_pictures_of_pages_are_fetched(server, tmp_path):
    (tmp_path / "a.md").write_text(f"a ![x]({server.address}/a.png)")
    (tmp_path / "b.html").write_text(f"b <img src={server.address}/b.png>")
    for allowed, expected in ((True, ["text", "image"]), (False, ["text"])):
        documents, left_out = read(tmp_path, Fetcher(tmp_path / f".fetched-{allowed}", private=allowed))
        assert [[item["type"] for item in page.content] for page in documents] == [expected] * 2
        assert ["no public address" in reason for reason in left_out] == [True] * 2 * (not allowed)
    assert server.counts == {"/a.png": 1, "/b.png": 1}
