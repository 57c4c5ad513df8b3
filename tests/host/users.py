"""Does something as another user: in a child, for a process does not get its rights back."""

import asyncio
import os
import traceback
from collections.abc import Callable, Sequence

import pytest

NOBODY = 65534


async def as_user(work: Callable[[], str], uid: int = NOBODY, gid: int = NOBODY, groups: Sequence[int] = ()) -> str:
    """What `work` returned, or how it failed."""
    if os.geteuid() != 0:
        pytest.fail("this test becomes other users and needs root: sudo make test")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _become_and_work(work, writer, uid, gid, groups)
    os.close(writer)
    with open(reader) as answer:
        text = await asyncio.to_thread(answer.read)
    os.waitpid(child, 0)
    return text


def _become_and_work(work: Callable[[], str], writer: int, uid: int, gid: int, groups: Sequence[int]) -> None:
    try:
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
        text = work()
    except BaseException:
        text = traceback.format_exc()
    os.write(writer, text.encode())
    os._exit(0)
