"""Fetch pictures by their addresses, from public hosts alone, within limits; what was fetched is kept in a folder."""

import hashlib
import ipaddress
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from urllib.parse import urljoin

import httpcore2
import httpx2

from modeling_nyx.images_nyx import MAX_BYTES

SECONDS = 20.0
REDIRECTS = 5
TRIES = 3
WORKERS = 16
REDIRECT = (301, 302, 303, 307, 308)


class FetchError(ValueError):
    """A picture that cannot be fetched; the message says why."""


class _Unsettled(FetchError):
    """What a later run may find otherwise: a host that is not there, or not allowed."""


class _Passing(_Unsettled):
    """What another try may put right: a time-out, a server's own error."""


class Fetcher:
    """Fetches each address once: its bytes, or why there are none for good, stay in `folder` for later runs.

    `private` allows hosts that are not public, such as this machine.
    """

    def __init__(self, folder: Path, private: bool = False, seconds: float = SECONDS) -> None:
        self.folder, self.private, self.seconds = folder, private, seconds
        self.pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="fetch")
        self.begun: dict[str, Future[Path]] = {}

    def begin(self, addresses: Iterable[str]) -> None:
        """Fetch side by side what `__call__` will be asked for soon."""
        for address in addresses:
            if address not in self.begun:
                self.begun[address] = self.pool.submit(self._fetch, address)

    def __call__(self, address: str) -> Path:
        """Return the fetched picture's file. Raises `FetchError`."""
        begun = self.begun.pop(address, None)
        return begun.result() if begun else self._fetch(address)

    def _fetch(self, address: str) -> Path:
        name = hashlib.sha256(address.encode(errors="backslashreplace")).hexdigest()
        path = self.folder / name[:2] / name
        refused = path.with_suffix(".refused")
        if path.exists():
            return path
        if refused.exists():
            raise FetchError(refused.read_text(encoding="utf-8"))
        try:
            data = self._try(address)
        except _Unsettled:
            raise
        except FetchError as error:
            _write(refused, str(error).encode())
            raise
        _write(path, data)
        return path

    def _try(self, address: str) -> bytes:
        for attempt in range(1, TRIES):
            try:
                return fetch(address, self.private, self.seconds)
            except _Passing:
                # Jitter only spaces requests out; nothing that is written depends on it.
                time.sleep(random.uniform(0.5, 1) * 2**attempt / 4)
        return fetch(address, self.private, self.seconds)


def fetch(address: str, private: bool = False, seconds: float = SECONDS) -> bytes:
    """Return what lies at an http(s) address. Every redirect is held to the same rules.

    Raises `FetchError` for an address that is not public (unless `private`), over 32 MiB, `seconds` in all, five
    redirects, and any status but 200.
    """
    deadline = time.monotonic() + seconds
    network = _Network(private, deadline)
    with httpcore2.ConnectionPool(network_backend=network, ssl_context=_certificates(), retries=0) as pool:
        for _ in range(REDIRECTS + 1):
            url = _checked(address)
            try:
                with pool.stream("GET", str(url), headers=_headers(url)) as response:
                    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                    if response.status in REDIRECT and b"location" in headers:
                        address = urljoin(str(url), headers[b"location"])
                        continue
                    return _body(response, headers)
            except httpcore2.TimeoutException as error:
                raise _Passing(f"remote picture not fetched within {seconds} seconds") from error
            except (httpcore2.NetworkError, httpcore2.RemoteProtocolError) as error:
                raise _Unsettled(f"remote picture not fetched ({error})") from error
            except (httpcore2.LocalProtocolError, UnicodeError) as error:
                raise FetchError(f"remote picture with an odd address ({error})") from error
    raise FetchError(f"remote picture behind more than {REDIRECTS} redirects")


def _checked(address: str) -> httpx2.URL:
    try:
        url = httpx2.URL(address)
    except (httpx2.InvalidURL, ValueError) as error:
        raise FetchError(f"remote picture with an odd address ({error})") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise FetchError(f"remote picture by {url.scheme or 'no scheme'}, expected http or https")
    if url.userinfo:
        raise FetchError("remote picture with a password in its address")
    return url


def _headers(url: httpx2.URL) -> dict[bytes | str, bytes | str]:
    return {
        "Host": url.netloc.decode("ascii"),
        "Accept": "image/*",
        # Compressed answers could unpack to any size.
        "Accept-Encoding": "identity",
        "User-Agent": "nyx-retriever",
    }


def _body(response: httpcore2.Response, headers: dict[bytes, str]) -> bytes:
    if response.status != 200:
        reason = f"remote picture answered with status {response.status}"
        raise (_Passing if response.status >= 500 or response.status == 429 else FetchError)(reason)
    length = headers.get(b"content-length", "")
    too_large = FetchError(f"remote picture of more than {MAX_BYTES} bytes")
    if length.isdigit() and int(length) > MAX_BYTES:
        raise too_large
    data = bytearray()
    for part in response.iter_stream():
        data += part
        if len(data) > MAX_BYTES:
            raise too_large
    return bytes(data)


class _Network(httpcore2.NetworkBackend):
    """Connects to the very address that was checked, so that no second answer of the name server counts."""

    def __init__(self, private: bool, deadline: float) -> None:
        self.private, self.deadline = private, deadline

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):  # type: ignore[no-untyped-def]
        try:
            found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"no such host: {host}") from error
        if not self.private and (odd := [each for each in found if not _is_public(each)]):
            raise _Unsettled(f"remote picture at {host}, which is {odd[0]}, no public address")
        # The fourth version first: it is the one that everybody has.
        address = min(found, key=lambda each: ":" in each)
        stream = httpcore2.SyncBackend().connect_tcp(
            address, port, _left(self.deadline), local_address, socket_options
        )
        return _Stream(stream, self.deadline)


class _Stream(httpcore2.NetworkStream):
    """A connection whose every step ends at the deadline, also where bytes come one by one."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self.stream, self.deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, _left(self.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, _left(self.deadline))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self.stream.start_tls(ssl_context, server_hostname, _left(self.deadline)), self.deadline)

    def get_extra_info(self, info: str) -> object:
        return self.stream.get_extra_info(info)


def _left(deadline: float) -> float:
    if (left := deadline - time.monotonic()) <= 0:
        raise httpcore2.ReadTimeout("time is up")
    return left


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # These carry an address of the fourth version, to which a gateway would connect.
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


@cache
def _certificates() -> ssl.SSLContext:
    return httpcore2.default_ssl_context()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    aside.write_bytes(data)
    os.replace(aside, path)
