"""Reports in files: written whole or not at all, and read."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp

from floatip.commands import Refusal
from floatip.core.refusals import Why
from floatip.drill.as_json import NotAReport, from_json, to_json
from floatip.drill.report import Report

JSON_BEGINS, HTML_HAS = b'{\n "format": ', b'<meta name="generator" content="floatip '
LARGEST = 256 << 20
"""Bytes of a report that is read."""
WHY = {
    errno.EACCES: "this user may not write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user's quota is used up",
    errno.ENOENT: "the directory does not exist",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.ENAMETOOLONG: "the name is too long",
}


class CannotWrite(Refusal):
    """The report cannot be written there."""

    code = Why.FILE_UNWRITABLE


def write(report: Report, path: Path) -> None:
    """As the ending of the name says; whatever happens, the file is the old one or the whole new one."""
    content = _maker(path)(report)
    _must_be_ours(path)
    _write(path, content.encode())


def check(path: Path) -> None:
    """That `write` will be able to, as far as one can know before. Changes nothing."""
    _maker(path)
    _must_be_ours(path)
    with _named(path):
        descriptor, new = mkstemp(prefix=".floatip-", dir=Path(os.path.realpath(path)).parent)
        os.close(descriptor)
        os.unlink(new)


def read(path: Path) -> Report:
    """Of a file that ends in .json. Raises Refusal."""
    if path.suffix.lower() != ".json":
        what = f"{path} is not a JSON file, and a report can be read again only from its JSON"
        raise NotAReport(what, "give the .json file: floatip writes one with --report FILE.json")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise NotAReport(f"{path} cannot be read: {str(error.strerror).lower()}", f"ls -l {path}") from None
    if len(content) > LARGEST:
        raise NotAReport(f"{path} is larger than {LARGEST >> 20} MiB", "give a report that floatip has written")
    return from_json(content, str(path))


def _maker(path: Path) -> Callable[[Report], str]:
    match path.suffix.lower():
        case ".json":
            return to_json
        case ".html":
            from floatip.drill.html import to_html  # noqa: PLC0415

            return to_html
        case ending:
            what = f"{path}: a report is a file that ends in .html or .json" + (f", not in {ending}" if ending else "")
            hint = "end the name in .html; to get a PDF, print the page from a browser"
            raise CannotWrite(what, hint)


def _must_be_ours(path: Path) -> None:
    """An older report may be replaced. A web page of somebody else may not."""
    try:
        if not path.exists():
            return
        if not path.is_file():
            raise CannotWrite(f"{path} is not a file", "give the name of a file")
        with path.open("rb") as file:
            begins = file.read(1000)
    except OSError as error:
        raise _cannot(path, error) from None
    if begins and not (begins.startswith(JSON_BEGINS) or HTML_HAS in begins):
        raise CannotWrite(f"{path} exists and is not a report of floatip", "give another name, or remove the file")


def _write(path: Path, content: bytes) -> None:
    real = Path(os.path.realpath(path))  # a link stays a link
    with _named(path):
        descriptor, new = mkstemp(prefix=".floatip-", dir=real.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                umask = os.umask(0o077)
                os.umask(umask)
                os.fchmod(descriptor, 0o666 & ~umask)
                os.fsync(descriptor)
            os.replace(new, real)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says of which file an OSError is."""
    try:
        yield
    except OSError as error:
        raise _cannot(path, error) from None


def _cannot(path: Path, error: OSError) -> CannotWrite:
    why = WHY.get(error.errno or 0, str(error.strerror).lower())
    return CannotWrite(f"cannot write {path}: {why}", f"give a file that you may write, as: --report ~/{path.name}")
