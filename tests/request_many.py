"""Sends many requests to a teacher with a reply cache, in a process that a test can kill.

Arguments: address, directory of the replies, number of requests.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from bard_ray.distill.teacher import TeacherRequest
from bard_ray.distill.teachers.openai import OpenAIBackend
from bard_ray.records import Message
from tests.chat_server import DirectoryHost


async def main(url: str, directory: str, count: int) -> None:
    backend = OpenAIBackend(model="m", base_url=url, concurrency=4)
    teacher = await backend.open("t", DirectoryHost(Path(directory)))
    requests = [
        TeacherRequest((Message("user", f"question {i}"),), 16, seed=i) for i in range(count)
    ]
    replies = await asyncio.gather(*(teacher.reply(request) for request in requests))
    texts = [reply.answer_text for reply in replies]
    print(json.dumps({"texts": texts, **teacher.counters()}))
    await teacher.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
