"""An OpenAI-compatible server on loopback that answers by a script, and misbehaves as the script says."""

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What goes over the wire. `hang`: seconds until it does; `cut`: bytes of its end that are left out."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0
    cut: int = 0


def said(words: Any, **reply: Any) -> Reply:
    """Make a chat completion that says so."""
    choice = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
    return Reply(json.dumps({"object": "chat.completion", "choices": [choice]}).encode(), **reply)


def texts(body: dict[str, Any]) -> str:
    """Return the user's message of a request; a picture is `<>`."""
    (content,) = [message["content"] for message in body["messages"] if message["role"] == "user"]
    return "".join(item.get("text", "<>") for item in content)


class ScriptedServer:
    """Runs while it is entered. `script` gets a request's JSON and how often the same one came before."""

    def __init__(
        self, script: Callable[[dict[str, Any], int], Reply], models: tuple[str, ...] = ("scripted",)
    ) -> None:
        self.script, self.models = script, models
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "ScriptedServer":
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with outer._lock:
                    outer.connections += 1

            def do_GET(self) -> None:
                models = [{"id": model, "object": "model"} for model in outer.models]
                self.reply(Reply(json.dumps({"object": "list", "data": models}).encode()))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    before = outer.asked.count(body)
                    outer.asked.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.now += 1
                    outer.most = max(outer.most, outer.now)
                try:
                    self.reply(outer.script(body, before))
                finally:
                    with outer._lock:
                        outer.now -= 1

            def reply(self, reply: Reply) -> None:
                time.sleep(reply.hang)
                self.send_response(reply.status)
                for name, value in ({"Content-Length": str(len(reply.body))} | reply.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body[: len(reply.body) - reply.cut])
                self.close_connection = self.close_connection or bool(reply.cut)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:  # clients that don't wait
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
