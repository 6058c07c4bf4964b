"""Replies of teachers on disk, so that a killed run does not request (and pay for) them again.

One append-only JSONL file per teacher, one reply per line, keyed by `TeacherRequest.key()`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bard_ray.distill.identity import digest, identity
from bard_ray.distill.teacher import Host, Reply, Teacher, TeacherRequest
from bard_ray.errors import InfrastructureError

SYNC_REPLIES = 16
SYNC_S = 1.0
_KEYED = re.compile(rb'\{"key": "([0-9a-f]{32})", .*\}\n', re.DOTALL)


class ReplyCache:
    """Replies in a file by key; memory holds only their offsets, about 110 bytes each.

    A reply is handed to the operating system before `put` returns: a killed process loses none that
    it has put. A power cut loses at most the replies of the last `SYNC_S` seconds, and fewer than
    `SYNC_REPLIES`. Torn or damaged lines are skipped and counted in `unreadable`; their replies are
    requested again. Several processes may append to one file: lines are written whole, and a miss
    first reads what others have added.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the file, or create it.

        Raises:
            InfrastructureError: it cannot be written.
        """
        self.path = Path(path)
        self.unreadable = 0
        self._offsets: dict[bytes, int] = {}
        self._read_bytes = 0
        self._unsynced, self._synced_at = 0, time.monotonic()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._file = self.path.open("rb")
        except OSError as error:
            raise self._broken(error) from error
        self._read_new_lines()
        # What is left has no line end: its writer was killed while writing.
        self._torn = self._read_bytes < os.fstat(self._append).st_size

    def __len__(self) -> int:
        return len(self._offsets)

    def get(self, key: str) -> Reply | None:
        """The reply stored under a key."""
        name = bytes.fromhex(key)
        if name not in self._offsets:
            self._read_new_lines()
        offset = self._offsets.get(name)
        if offset is None:
            return None
        self._file.seek(offset)
        try:
            record = json.loads(self._file.readline())
            del record["key"]
            return Reply(**record)
        except (ValueError, TypeError):
            self.unreadable += 1
            del self._offsets[name]
            return None

    async def put(self, key: str, reply: Reply) -> None:
        """Append a reply.

        Raises:
            InfrastructureError: it cannot be written, for example because the disk is full.
        """
        line = f"{json.dumps({'key': key, **asdict(reply)})}\n".encode()
        self._write(b"\n" + line if self._torn else line)
        self._unsynced += 1
        now = time.monotonic()
        if self._unsynced >= SYNC_REPLIES or now - self._synced_at >= SYNC_S:
            self._unsynced, self._synced_at = 0, now
            await asyncio.to_thread(os.fsync, self._append)

    def close(self) -> None:
        """Sync everything to the disk and close the file."""
        os.fsync(self._append)
        os.close(self._append)
        self._file.close()

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._append, line)
        except OSError as error:
            raise self._broken(error) from error
        self._torn = written < len(line)
        if self._torn:
            raise self._broken(OSError("the disk is full"))

    def _read_new_lines(self) -> None:
        """Find the offsets of the lines that were added since the last call."""
        if os.fstat(self._append).st_size == self._read_bytes:
            return
        self._file.seek(self._read_bytes)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            if keyed := _KEYED.fullmatch(line):
                self._offsets[bytes.fromhex(keyed[1].decode())] = self._read_bytes
            else:
                self.unreadable += 1
            self._read_bytes += len(line)

    def _broken(self, error: OSError) -> InfrastructureError:
        return InfrastructureError(
            f"{self.path}: replies cannot be stored ({error.strerror or error})"
        )


class CachedTeacher:
    """A teacher that receives only requests without a stored reply."""

    def __init__(self, teacher: Teacher, path: str | Path) -> None:
        """Wrap a teacher.

        Args:
            teacher: receives the requests.
            path: file of its replies, of this teacher alone; see `reply_cache_path`.

        Raises:
            InfrastructureError: the file cannot be written.
        """
        self._teacher, self._cache = teacher, ReplyCache(path)
        self._in_flight: dict[str, asyncio.Event] = {}
        self._reused = 0

    async def reply(self, request: TeacherRequest) -> Reply:
        """The stored reply, or a new one, which is stored unless it failed.

        A request that is already in flight waits for that reply. Raises as the teacher does.

        Raises:
            InfrastructureError: the reply cannot be stored.
        """
        key = request.key()
        while other := self._in_flight.get(key):
            await other.wait()
        if stored := self._cache.get(key):
            self._reused += 1
            return stored
        done = self._in_flight[key] = asyncio.Event()
        try:
            reply = await self._teacher.reply(request)
            if reply.finish != "failed":
                await self._cache.put(key, reply)
            return reply
        finally:
            del self._in_flight[key]
            done.set()

    def counters(self) -> Mapping[str, float]:
        """The teacher's counters, `reused` replies, and `unreadable` lines of the file."""
        own = {"reused": self._reused, "unreadable": self._cache.unreadable}
        return {**self._teacher.counters(), **own}

    async def close(self) -> None:
        """Close teacher and file."""
        self._cache.close()
        await self._teacher.close()


def reply_cache_path(host: Host, backend: object) -> Path:
    """File of a teacher's replies, named by the digest of what decides its texts."""
    return host.replies / f"{digest(identity(backend))}.jsonl"
