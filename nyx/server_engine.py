"""A vision-language model behind an OpenAI-compatible server: vLLM, SGLang, TGI, `transformers serve`, and others."""

import email.utils
import json
import logging
import os
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2

from modeling_nyx.content_nyx import to_content
from modeling_nyx.processing_nyx import MAX_PIXELS
from nyx.engines import Answer, ReaderError, Request
from nyx.server_pictures import data_uri

logger = logging.getLogger(__name__)

API_KEYS = ("NYX_API_KEY", "OPENAI_API_KEY")
MAX_BYTES = 16 * 2**20  # of an answer
LONGEST_PAUSE = 60.0
CONNECT = 10.0  # seconds until a server counts as unreachable
MARK = re.compile(r"<(?=\|\w+\|>)")


class Unavailable(Exception):
    """The server gave no answer this time; it may the next. `pause`: seconds it asked for."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class ServerEngine:
    """An OpenAI-compatible server: `url` is what comes before `/chat/completions`, as `http://localhost:8000/v1`.

    Up to `concurrency` requests are under way together. Only what may pass is tried again, `retries` times at most:
    status 429 and 5xx, no answer within `timeout` seconds, and lost connections. A server that cannot be reached or
    refuses every request (wrong key, model or address) ends the run with `ConnectionError`; any other answer that
    isn't a chat completion is a `ReaderError` of that request alone. What the model says is not looked into: also
    with a schema, whoever asks has to check it.

    The key comes from the environment: `NYX_API_KEY`, or `OPENAI_API_KEY`.
    """

    at_once = 1

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
        backoff: float = 0.5,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if concurrency < 1 or retries < 0 or timeout <= 0:
            raise ValueError(f"concurrency is {concurrency}, retries {retries}, timeout {timeout}; too few.")
        self.url, self.model, self.workers = _checked(url), model, concurrency
        self.timeout, self.retries, self.backoff, self.max_pixels = timeout, retries, backoff, max_pixels
        self._reached = threading.Event()
        key = next((os.environ[name] for name in API_KEYS if os.environ.get(name)), None)
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT)),
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    @property
    def identity(self) -> str:
        return json.dumps([self.url, self.model, self.max_pixels])

    def find_model(self) -> None:
        """Ask the server which model it serves, if none is named. Raises `ValueError` unless there is exactly one."""
        if self.model:
            return
        listed = self._exchange("GET", "/models", None)
        try:
            models = [each["id"] for each in json.loads(listed)["data"]]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.url}/models lists no models: {listed[:200]!r}. Name the model.") from error
        if len(models) != 1:
            raise ValueError(f"{self.url} serves {', '.join(models) or 'no model'}. Name the model: {self.url}#MODEL")
        self.model = models[0]

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Ask for one answer after the other; safe to call from several threads."""
        for place, request in enumerate(requests):
            try:
                answer: Answer = _said(self._exchange("POST", "/chat/completions", self.body(request)))
            except ValueError as error:
                answer = error if isinstance(error, ReaderError) else ReaderError(str(error))
            yield place, answer

    def body(self, request: Request) -> bytes:
        """Write a request as the server gets it; marks such as `<|im_end|>` in its texts are broken."""
        content: list[dict[str, Any]] = []
        for item in to_content(request.content):
            if item["type"] == "text":
                content.append({"type": "text", "text": MARK.sub("<\u200b", item["text"])})
            else:
                content.append({"type": "image_url", "image_url": {"url": data_uri(item["image"], self.max_pixels)}})
        messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
        messages.append({"role": "user", "content": content})
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": request.max_tokens}
        if request.schema is not None:
            schema = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return json.dumps(body).encode()

    def _exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        """Send until there is an answer to return, an error to raise, or no attempt left."""
        for attempt in range(self.retries + 1):
            try:
                return self._send(method, path, body)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if not self._reached.is_set() or attempt == self.retries:
                    raise ConnectionError(
                        f"{self.url} cannot be reached ({error}). Start the server or name another; what was "
                        "answered is kept."
                    ) from error
                failure = Unavailable(f"connection failed ({error})")
            except Unavailable as error:
                failure = error
            logger.debug("Attempt %d: %s", attempt + 1, failure)
            if attempt < self.retries:
                backoff = min(self.backoff * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.5)
                time.sleep(max(backoff, min(failure.pause, LONGEST_PAUSE)))
        raise ReaderError(f"{self.url}: {failure}; asked {self.retries + 1} times.")

    def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        """Send once; raises `Unavailable` for what may pass, and httpx2's errors where no connection came about."""
        try:
            return self._receive(method, path, body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            raise
        except httpx2.TimeoutException as error:
            raise Unavailable(f"no answer within {self.timeout:g} s") from error
        except httpx2.TransportError as error:
            raise Unavailable(f"connection lost ({error})") from error
        except httpx2.DecodingError as error:
            raise ReaderError(f"{self.url}: an answer that cannot be decoded ({error}).") from error

    def _receive(self, method: str, path: str, body: bytes | None) -> bytes:
        deadline, read = time.monotonic() + self.timeout, bytearray()
        headers = {"Content-Type": "application/json"}
        with self._client.stream(method, self.url + path, content=body, headers=headers) as response:
            self._reached.set()
            for part in response.iter_bytes():
                read += part
                if len(read) > MAX_BYTES:
                    raise ReaderError(f"{self.url}: an answer of more than {MAX_BYTES} bytes.")
                if time.monotonic() > deadline:
                    raise Unavailable(f"no whole answer within {self.timeout:g} s")
        self._check(response, bytes(read))
        return bytes(read)

    def _check(self, response: httpx2.Response, body: bytes) -> None:
        """Raise what a status other than success means."""
        status = response.status_code
        if response.is_success:
            return
        said = f"{self.url}: status {status}, {body[:200].decode(errors='replace')!r}"
        if status in (408, 429) or status >= 500:
            raise Unavailable(said.removeprefix(f"{self.url}: "), _retry_after(response.headers.get("Retry-After")))
        if status < 400 or status in (401, 403, 404, 405):
            raise ConnectionError(
                f"{said}. It would be the same for every request: check address, model ({self.model!r}) and key "
                f"({' or '.join(API_KEYS)})."
            )
        raise ReaderError(f"{said}.")


def _said(body: bytes) -> str:
    """Return the text of a chat completion. Raises `ReaderError` for anything else."""
    try:
        choice = json.loads(body)["choices"][0]
        said = choice["message"]["content"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        shown = body[:200].decode(errors="replace")
        raise ReaderError(f"The server's answer is no chat completion: {shown!r}.") from error
    if not isinstance(said, str) or not said.strip():
        raise ReaderError(f"The server's answer is empty (it ended by {choice.get('finish_reason')!r}).")
    try:
        said.encode()
    except UnicodeError as error:
        raise ReaderError(f"The server's answer is no Unicode: {said[:200]!r}.") from error
    return said.strip()


def _retry_after(value: str | None) -> float:
    """Return the seconds that a `Retry-After` header asks for: a number, or a date."""
    if value is None:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _checked(url: str) -> str:
    """Return an address without its last slash. Raises `ValueError` for one that is no server's, or holds a key."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ValueError(f"{url!r} is no address ({error}). Expected one as http://localhost:8000/v1.") from error
    if parsed.userinfo or parsed.query:
        raise ValueError(f"The address of {parsed.host} holds a password or a query. Put the key into {API_KEYS[0]}.")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.fragment:
        raise ValueError(f"{url!r} is no server. Expected an address as http://localhost:8000/v1.")
    return url.rstrip("/")
