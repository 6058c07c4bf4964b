"""An HTTP endpoint on loopback that fails as instructed, with an answer or a real server behind."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Answer = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]  # path and body -> status and body

# Faults that occur before the real server is asked; the others lose a real answer.
STATUS = {"429": "Retry-After: 0.3\r\n", "500": "", "503": "", "408": "", "409": ""}


@dataclass(frozen=True)
class DirectoryHost:
    """A host for teachers that need no cluster."""

    replies: Path
    seed: int = 0

    async def engines(self, spec: Any) -> Any:
        raise NotImplementedError


class ChatServer:
    """Plain HTTP/1.1, one connection a request.

    Attributes:
        faults: what happens to the requests, in order of arrival: a status of `STATUS`, `reset`
            (before anything is sent), `reset_middle`, `truncated`, `html`, `slow`, or empty: all
            is well, as for all requests after the last one.
        delivered: whole answers that were sent, by the body of the request.
        lost: answers that existed but did not arrive, by the body of the request.
    """

    def __init__(self, answer: Answer, faults: Iterable[str] = (), slow_s: float = 0.0) -> None:
        self._answer, self._faults, self._slow_s = answer, iter(faults), slow_s
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.delivered: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0

    async def __aenter__(self) -> ChatServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            path, headers, body = await _read_request(reader)
            self.times.append(asyncio.get_running_loop().time())
            self.headers.append(headers)
            self.requests.append(json.loads(body))
            await self._respond(writer, path, body, next(self._faults, ""))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client was killed
        finally:
            self.under_way -= 1
            writer.close()

    async def _respond(
        self, writer: asyncio.StreamWriter, path: str, body: bytes, fault: str
    ) -> None:
        if fault in STATUS:
            error = json.dumps({"error": {"message": "busy", "code": fault}}).encode()
            writer.write(_head(int(fault), len(error), STATUS[fault]) + error)
        elif fault == "reset":
            _reset(writer)
        elif fault == "html":
            writer.write(_head(200, 6) + b"<html>")
        elif fault == "slow":
            await asyncio.sleep(self._slow_s)
        else:
            status, answer = await self._answer(path, body)
            sent = answer[: len(answer) // 2] if fault else answer
            # `truncated` is a whole HTTP response with half of the JSON in it.
            writer.write(_head(status, len(sent if fault == "truncated" else answer)) + sent)
            await writer.drain()
            (self.lost if fault else self.delivered)[_ask_of(body)] += 1
            if fault == "reset_middle":
                _reset(writer)


def says(text: Callable[[dict[str, Any]], str], **message: Any) -> Answer:
    """A model that says `text` of the request, with usage 10 + 5; fields of the message beside."""

    async def answer(path: str, body: bytes) -> tuple[int, bytes]:
        record = {
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text(json.loads(body)), **message},
                }
            ],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        }
        return 200, json.dumps(record).encode()

    return answer


def fixed(status: int, record: Mapping[str, Any]) -> Answer:
    """A server that always answers the same."""

    async def answer(path: str, body: bytes) -> tuple[int, bytes]:
        return status, json.dumps(record).encode()

    return answer


def forward(port: int) -> Answer:
    """What the server at this port of the machine answers."""

    async def answer(path: str, body: bytes) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        lines, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(lines.split()[1]), rest

    return answer


def _ask_of(body: bytes) -> str:
    return json.dumps(json.loads(body), sort_keys=True)


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines[1:] if line)
    headers = {name.lower(): value for name, value in pairs}
    return lines[0].split()[1], headers, await reader.readexactly(int(headers["content-length"]))


def _head(status: int, length: int, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n{more}"
    return f"{head}Content-Length: {length}\r\nConnection: close\r\n\r\n".encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side sees a reset, not an end."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
