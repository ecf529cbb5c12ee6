"""A server that answers as an OpenAI-compatible one, a while after it was asked, and notes what it was asked.

python -m benchmarks.data.slow_server --latency 0.05 --answers answers.json --log asked.log

What `nyx build-qa` asks, by a schema, is answered from the page: a question a sentence, five at most.
`--answers`: JSON of questions and their answers; a question is answered if its prompt's documents hold the answer.
`--log`: gets a line for each request, a hash of it, as it comes. Prints its address.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def answered(body: bytes, answers: dict[str, str]) -> bytes:
    """Write the chat completion for a request."""
    request = json.loads(body)
    words = "".join(item.get("text", "") for item in request["messages"][-1]["content"])
    form = request.get("response_format")
    said = by_schema(form["json_schema"]["schema"], words) if form else by_document(words, answers)
    return json.dumps({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}).encode()


def by_document(words: str, answers: dict[str, str]) -> str:
    """Answer a question if the documents before it hold the answer."""
    documents, _, question = words.partition("\nQuestion: ")
    answer = answers.get(question.strip(), "")
    return answer if answer and answer in documents else "unknown"


def by_schema(schema: dict[str, Any], words: str) -> str:
    """Write pairs over a page, a shorter answer, or three wrong ones."""
    answer = words.rpartition("\nAnswer: ")[2]
    if "answer" in schema["properties"]:
        return json.dumps({"answer": " ".join(answer.split()[:3])})
    if "options" in schema["properties"]:
        return json.dumps({"options": [f"not {answer}, but {number}" for number in (1, 2, 3)]})
    marks = " ".join(re.findall(r"<image\d+>", words)[:2])
    pairs: list[dict[str, str]] = []
    for sentence in re.sub(r"\s*<image\d+>\s*", " ", words.removeprefix("Page: ")).split(". "):
        start, after = sentence.split()[:3], sentence.split()[3:8]
        if after and len(pairs) < 5:
            question = f'Which words follow "{" ".join(start)}"{" beside " + marks if marks else ""}?'
            pairs.append({"question": question, "answer": " ".join(after)})
    return json.dumps({"pairs": pairs})


async def serve(latency: float, answers: dict[str, str], log: int) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                (length,) = re.findall(rb"content-length: (\d+)", head.lower())
                body = await reader.readexactly(int(length))
                os.write(log, hashlib.sha256(body).hexdigest().encode() + b"\n")
                await asyncio.sleep(latency)
                reply = answered(body, answers)
                writer.write(HEAD % len(reply) + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)  # noqa: T201
    await server.serve_forever()


@contextmanager
def slow_server(latency: float, log: Path, answers: Path | None = None) -> Iterator[str]:
    """Run it in a process of its own; gives its address."""
    log.touch()
    command = [sys.executable, "-m", "benchmarks.data.slow_server", "--latency", str(latency), "--log", str(log)]
    command += ["--answers", str(answers)] if answers else []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--log", type=Path, required=True)
    args = parser.parse_args()
    answers = json.loads(args.answers.read_text()) if args.answers else {}
    asyncio.run(serve(args.latency, answers, os.open(args.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)))


if __name__ == "__main__":
    main()
