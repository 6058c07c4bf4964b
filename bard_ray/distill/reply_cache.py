"""Replies that were paid for are kept, so that a run that was killed does not pay twice.

One append-only JSONL file a teacher, one reply a line, keyed by `TeacherRequest.key()`.
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
    """Replies in a file, found by key; only their places are held in memory, about 110 bytes each.

    A reply is handed to the operating system before `keep` returns: a killed process loses none
    that it has kept. A machine that loses power loses at most those of the last `SYNC_S` seconds,
    and fewer than `SYNC_REPLIES`. Lines that are torn or damaged are passed over and counted in
    `unreadable`; their asks are asked again. Several processes may append to one file: lines are
    written whole, and a miss looks first at what others have added.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the file, or begin it.

        Raises:
            InfrastructureError: it cannot be written.
        """
        self.path = Path(path)
        self.unreadable = 0
        self._places: dict[bytes, int] = {}
        self._seen_bytes = 0
        self._unsynced, self._synced_at = 0, time.monotonic()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._file = self.path.open("rb")
        except OSError as error:
            raise self._broken(error) from error
        self._catch_up()
        # What is left has no end: whoever wrote it was killed while doing so.
        self._torn = self._seen_bytes < os.fstat(self._append).st_size

    def __len__(self) -> int:
        return len(self._places)

    def find(self, key: str) -> Reply | None:
        """The reply kept under a key."""
        name = bytes.fromhex(key)
        if name not in self._places:
            self._catch_up()
        place = self._places.get(name)
        if place is None:
            return None
        self._file.seek(place)
        try:
            record = json.loads(self._file.readline())
            del record["key"]
            return Reply(**record)
        except (ValueError, TypeError):
            self.unreadable += 1
            del self._places[name]
            return None

    async def keep(self, key: str, reply: Reply) -> None:
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
        """Bring everything to the disk and let go of the file."""
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

    def _catch_up(self) -> None:
        """Find the places of the lines that were added since the last time."""
        if os.fstat(self._append).st_size == self._seen_bytes:
            return
        self._file.seek(self._seen_bytes)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            if keyed := _KEYED.fullmatch(line):
                self._places[bytes.fromhex(keyed[1].decode())] = self._seen_bytes
            else:
                self.unreadable += 1
            self._seen_bytes += len(line)

    def _broken(self, error: OSError) -> InfrastructureError:
        return InfrastructureError(
            f"{self.path}: replies cannot be kept ({error.strerror or error})"
        )


class CachedTeacher:
    """A teacher that is asked only what was never answered."""

    def __init__(self, teacher: Teacher, path: str | Path) -> None:
        """Wrap a teacher.

        Args:
            teacher: who is asked.
            path: file of its replies, of this teacher alone; see `reply_cache_path`.

        Raises:
            InfrastructureError: the file cannot be written.
        """
        self._teacher, self._ledger = teacher, ReplyCache(path)
        self._under_way: dict[str, asyncio.Event] = {}
        self._reused = 0

    async def reply(self, ask: TeacherRequest) -> Reply:
        """The reply kept, or a new one, which is kept unless it failed.

        An ask that is under way already waits for that reply. Raises as the teacher does.

        Raises:
            InfrastructureError: the reply cannot be kept.
        """
        key = ask.key()
        while other := self._under_way.get(key):
            await other.wait()
        if found := self._ledger.find(key):
            self._reused += 1
            return found
        done = self._under_way[key] = asyncio.Event()
        try:
            reply = await self._teacher.reply(ask)
            if reply.ended != "failed":
                await self._ledger.keep(key, reply)
            return reply
        finally:
            del self._under_way[key]
            done.set()

    def counters(self) -> Mapping[str, float]:
        """The teacher's, how many replies were `reused`, and how many lines are `unreadable`."""
        own = {"reused": self._reused, "unreadable": self._ledger.unreadable}
        return {**self._teacher.counters(), **own}

    async def close(self) -> None:
        """Close teacher and file."""
        self._ledger.close()
        await self._teacher.close()


def reply_cache_path(host: Host, backend: object) -> Path:
    """File of a teacher's replies: its name is the digest of what decides what it writes."""
    return host.replies / f"{digest(identity(backend))}.jsonl"
