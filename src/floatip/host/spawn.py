"""posix_spawn(3) without Python's lock, so that a thread that waits for an exec that hangs holds up no other thread.

`subprocess` keeps the lock until exec before Python 3.11.4 (Debian 12 has 3.11.2), unless it forks, which costs three
times as much in a process of our size.
"""

import ctypes
import errno
import functools
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_libc = ctypes.CDLL(None)
"""Calls of it let other threads run."""
_quick = ctypes.PyDLL(None)
_OPAQUE = 1024
"""More than posix_spawnattr_t and posix_spawn_file_actions_t have anywhere."""
_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def spawn(argv: Sequence[str], environment: Mapping[str, str] | None, output: int, source: int | None = None) -> int:
    """The pid of a child in a session of its own, that reads from `source`, by default nothing, and writes to `output`.

    It gets no other descriptor. `environment` is added to ours. Raises OSError: EINVAL for a NUL byte.
    """
    arguments = _strings(argv)
    variables = _strings(map("=".join, (os.environ | (environment or {})).items()))
    actions = ctypes.create_string_buffer(_OPAQUE)
    pid = ctypes.c_int()
    _check(_quick.posix_spawn_file_actions_init(actions))
    try:
        if source is None:
            _check(_quick.posix_spawn_file_actions_addopen(actions, 0, os.fsencode(os.devnull), os.O_RDONLY, 0))
        else:
            _check(_quick.posix_spawn_file_actions_adddup2(actions, source, 0))
        for descriptor in (1, 2):
            _check(_quick.posix_spawn_file_actions_adddup2(actions, output, descriptor))
        if hasattr(_quick, "posix_spawn_file_actions_addclosefrom_np"):  # glibc 2.34
            _check(_quick.posix_spawn_file_actions_addclosefrom_np(actions, 3))
        path = os.fsencode(argv[0])
        _check(_libc.posix_spawn(ctypes.byref(pid), path, actions, _attributes(), arguments, variables))
    finally:
        _quick.posix_spawn_file_actions_destroy(actions)
    return pid.value


@functools.cache
def _attributes() -> Any:
    attributes, defaults = ctypes.create_string_buffer(_OPAQUE), ctypes.create_string_buffer(_OPAQUE)
    _check(_quick.posix_spawnattr_init(attributes))
    _quick.sigemptyset(defaults)
    for number in _IGNORED_BY_PYTHON:
        _quick.sigaddset(defaults, number)
    _check(_quick.posix_spawnattr_setsigdefault(attributes, defaults))
    # Nothing is blocked in the child, whatever the thread that starts it blocks: SIGTERM must reach a check.
    none = ctypes.create_string_buffer(_OPAQUE)
    _quick.sigemptyset(none)
    _check(_quick.posix_spawnattr_setsigmask(attributes, none))
    _check(_quick.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID)))
    return attributes


def _strings(texts: Iterable[str]) -> Any:
    encoded = [os.fsencode(text) for text in texts]
    if any(b"\0" in text for text in encoded):
        raise OSError(errno.EINVAL, "")
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)


def _check(code: int) -> None:
    if code:
        raise OSError(code, os.strerror(code))
