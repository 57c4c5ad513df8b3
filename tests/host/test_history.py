"""The history file: written by a thread, read by `floatip history`, and never lost but for its last line."""

import asyncio
import builtins
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from floatip import history as reader
from floatip import history_command
from floatip.core.events import Phases, TookOver
from floatip.history import NAME, Change, NotOurs, line, parse, read_history, stamp, tail
from floatip.host import history as writer
from floatip.host.disk import Disk
from floatip.host.history import History, append
from floatip.host.news import Item
from tests.command_line import floatip
from tests.host.conftest import entered
from tests.host.fuse import CLONE_NEWNS
from tests.host.reports import Reports, until

NOON = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)
NAMES = {"time", "monotonic", "boot", "node", "what", "name", "before", "value", "reason", "took"}


def item(number: int, what: str = "role", name: str = "web", value: str = "master", reason: str = "because") -> Item:
    return Item(float(number), NOON + timedelta(seconds=number), what, name, value, reason, True, "", before="backup")


STOPPED = item(99, "daemon", "floatip", "stopped")


def play(directory: Path, reports: Reports, story: Callable[[History, Disk], Awaitable[None]]) -> None:
    before = set(threading.enumerate())

    async def run() -> None:
        disk = Disk(reports, "history")
        history = History(disk, directory)
        history.node = "haproxy1"
        await history.load()
        async with asyncio.timeout(60):
            await story(history, disk)
        disk.close()
        await until(lambda: before.issuperset(threading.enumerate()))

    asyncio.run(run())


def write(directory: Path, reports: Reports, *items: Item) -> None:
    async def story(history: History, disk: Disk) -> None:
        for one in items:
            history.note(one)
        await disk.finish(60)

    play(directory, reports, story)


def numbers(directory: Path) -> list[int]:
    return [int(change.monotonic) for change in read_history(directory)]


def failures(reports: Reports) -> list[str]:
    return [failure.reason for failure in reports.failing("history")]


def test_a_change_is_read_as_it_was_written(tmp_path: Path, reports: Reports) -> None:
    async def story(history: History, disk: Disk) -> None:
        history.note(item(1))
        history.took_over(TookOver("web", Phases(0.31, 0.0, 0.01, 0.04)))
        history.note(item(2, "takeover", value="complete"))
        history.note(item(3, "takeover", value="given-up"))
        await disk.finish(60)

    play(tmp_path, reports, story)
    role, complete, given_up = read_history(tmp_path)
    assert role.data.keys() == NAMES
    assert (role.time, role.monotonic, role.node) == ("2026-11-29T12:00:01.000+00:00", 1.0, "haproxy1")
    said = role.what, role.name, role.before, role.value, role.reason
    assert said == ("role", "web", "backup", "master", "because")
    assert complete.took == {"detected": 0.31, "decided": 0.0, "wire": 0.01, "acknowledged": 0.04}
    assert role.took is given_up.took is None
    assert role.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o640
    assert failures(reports) == []


@pytest.mark.parametrize("text", ["\x1b[2J\n{}\x00\r", "\u2028\u2029", "\udcff", "\U0001f600" * 600, '"}\\n'])
def test_no_text_of_others_breaks_a_line(text: str, tmp_path: Path, reports: Reports) -> None:
    write(tmp_path, reports, item(1, reason=text, name=text), item(2))
    assert numbers(tmp_path) == [1, 2]
    content = (tmp_path / NAME).read_bytes()
    assert content.isascii()
    assert content.count(b"\n") == 2
    assert b"\x1b" not in content
    assert len(content) < 20_000


def test_a_file_that_ends_at_any_byte_loses_its_last_line_and_nothing_else(tmp_path: Path, reports: Reports) -> None:
    write(tmp_path, reports, item(1), item(2), item(3))
    whole = (tmp_path / NAME).read_bytes()
    ends = [at + 1 for at, octet in enumerate(whole) if octet == 10]
    for cut in range(len(whole) + 1):
        for torn in (b"", b"\0" * 7):  # as a file system leaves it that knew the length and not yet the content
            (tmp_path / NAME).write_bytes(whole[:cut] + torn)
            kept = sum(end - 1 <= cut for end in ends) - (bool(torn) and cut + 1 in ends)
            assert numbers(tmp_path) == [1, 2, 3][:kept]
            assert append(tmp_path / NAME, whole[: ends[0]]) == ""
            assert numbers(tmp_path) == [*[1, 2, 3][:kept], 1]


def test_a_daemon_starts_on_a_torn_file_and_shows_what_is_whole(tmp_path: Path, reports: Reports) -> None:
    write(tmp_path, reports, *map(item, range(5)))
    whole = (tmp_path / NAME).read_bytes()
    for cut in range(0, len(whole), 37):
        (tmp_path / NAME).write_bytes(whole[:cut])
        before = numbers(tmp_path)

        async def story(history: History, disk: Disk, before: list[int] = before) -> None:
            assert [change.time[17:19] for change in history.recent] == [f"{number:02}" for number in before[-3:]]
            history.note(item(9))
            await disk.finish(60)

        play(tmp_path, reports, story)
        assert numbers(tmp_path) == [*before, 9]
    assert failures(reports) == []


def test_a_writer_that_is_killed_leaves_whole_lines(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from floatip.history import Change, line
from floatip.host.history import append
print(flush=True)
number = 0
while True:
    changes = [Change("2026-11-29T12:00:00.000+00:00", n, "", "", "role", "web", "", "", "x" * 300)
               for n in range(number, number + 50)]
    append(Path("{tmp_path}/{NAME}"), b"".join(map(line, changes)))
    number += 50
"""
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            path, size = tmp_path / NAME, (tmp_path / NAME).stat().st_size if (tmp_path / NAME).exists() else 0
            while not path.exists() or path.stat().st_size < size + 50_000:
                assert process.poll() is None
            process.kill()
    lines = path.read_bytes().split(b"\n")
    assert len(lines) > 300
    assert sum(parse(each) is None for each in lines) <= 1 + 3  # the end, and one a kill
    found = numbers(tmp_path)
    runs = [at for at, number in enumerate(found) if number == 0]
    assert len(runs) == 3
    for begin, end in zip(runs, [*runs[1:], len(found)], strict=True):
        assert found[begin:end] == list(range(end - begin))


GARBAGE = {
    "NULs": b"\0" * 5000 + b"\n",
    "binary": bytes(range(256)) * 40 + b"\n",
    "another version": b'{"v": 2, "time": "2026-11-29T12:00:00.000+00:00", "what": "role"}\n',
    "an older form": b'{"time": "2026-11-29T12:00:00.000+00:00"}\n',
    "wrong types": b'{"v": 1, "time": "2026-11-29T12:00:00.000+00:00", "boot": 1, "node": [], "what": {}, '
    b'"name": null, "before": 1, "value": 1, "reason": 1, "monotonic": "x"}\n',
    "no time": b'{"v": 1, "time": "yesterday at a time that fits", "boot": "", "node": "", "what": "", "name": "", '
    b'"before": "", "value": "", "reason": "", "monotonic": 1}\n',
    "nested": b'{"v": 1, "time": "2026-11-29T12:00:00.000+00:00", "took": ' + b"[" * 100_000 + b"\n",
    "a number too large": b'{"v": 1, "time": "2026-11-29T12:00:00.000+00:00", "boot": "", "node": "", "what": "", '
    b'"name": "", "before": "", "value": "", "reason": "", "monotonic": 1' + b"0" * 400 + b"}\n",
    "no number": b'{"v": 1, "time": "2026-11-29T12:00:00.000+00:00", "boot": "", "node": "", "what": "", '
    b'"name": "", "before": "", "value": "", "reason": "", "monotonic": NaN}\n',
    "a year that is none": b'{"v": 1, "time": "9999-12-31T23:59:59.000-12:00", "boot": "", "node": "", "what": "", '
    b'"name": "", "before": "", "value": "", "reason": "", "monotonic": 1}\n',
    "not UTF-8": b'{"v": 1, "time": "\xff\xfe\n',
    "empty lines": b"\n\n\n",
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_line_of_ours_is_skipped_and_kept(kind: str, tmp_path: Path, reports: Reports) -> None:
    write(tmp_path, reports, item(1))
    with (tmp_path / NAME).open("ab") as file:
        file.write(GARBAGE[kind])
    write(tmp_path, reports, item(2))
    assert numbers(tmp_path) == [1, 2]
    assert GARBAGE[kind] in (tmp_path / NAME).read_bytes()
    assert failures(reports) == []


@pytest.mark.parametrize("where", [NAME, f"{NAME}.1"])
@pytest.mark.parametrize("kind", ["directory", "FIFO", "symlink", "another's", "hard link"])
def test_what_stands_there_and_is_not_ours_is_refused_and_stays(
    kind: str, where: str, tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LARGEST", 400)
    directory, other = tmp_path / "state", tmp_path / "other"
    directory.mkdir()
    other.write_text("not ours\n")
    path = directory / where
    match kind:
        case "directory":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path)
        case "symlink":
            path.symlink_to(other)
        case "hard link":
            path.hardlink_to(other)
        case "another's":
            path.write_text("not ours\n")
            os.chown(path, 64123, -1)
    before = os.lstat(path)
    write(directory, reports, item(1))
    write(directory, reports, item(2))
    after = os.lstat(path)
    assert (after.st_ino, after.st_size, after.st_uid) == (before.st_ino, before.st_size, before.st_uid)
    assert other.read_text() == "not ours\n"
    (reason,) = failures(reports)
    assert f"mv {path} {path}.other" in reason
    path.rename(tmp_path / "away")
    mended = Reports()
    write(directory, mended, item(3))
    assert failures(mended) == []
    assert numbers(directory) == ([3] if where == NAME else [1, 3])


@pytest.mark.parametrize("kind", ["directory", "FIFO", "symlink"])
def test_a_reader_waits_for_nothing_and_says_what_stands_there(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    path = tmp_path / NAME
    match kind:
        case "directory":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path)
        case "symlink":
            path.symlink_to("/etc/passwd")
    with pytest.raises(NotOurs):
        tail(tmp_path, 3)
    status, said = floatip("history")
    assert status == 1
    assert said == f"error: cannot read {path}: it is not a regular file [file-unreadable]\nhint: ls -l {tmp_path}\n"


def test_the_size_is_bounded_and_the_newest_lines_stay(
    tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LARGEST", 20_000)
    for begin in range(0, 1000, 10):
        write(tmp_path, reports, *map(item, range(begin, begin + 10)))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 40_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, f"{NAME}.1"]
    found = numbers(tmp_path)
    assert found == list(range(found[0], 1000))
    assert len(found) > 70
    assert [int(change.monotonic) for change in tail(tmp_path, 60)] == list(range(940, 1000))


def test_a_failover_of_many_instances_is_a_few_writes(
    tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []

    def counted(path: Path, batch: bytes) -> str:
        writes.append(batch.count(b"\n"))
        return append(path, batch)

    monkeypatch.setattr(writer, "append", counted)
    write(tmp_path, reports, *(item(number, name=f"VI_{number}") for number in range(1000)))
    assert sum(writes) == 1000
    assert len(writes) <= 6


def test_the_loop_opens_and_formats_nothing(tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever writes, opens or makes JSON is in another thread."""
    loop, here, elsewhere = threading.get_ident(), list[str](), list[str]()

    def spied(module: object, name: str) -> None:
        real = getattr(module, name)

        def spy(*arguments: object, **options: object) -> object:
            (here if threading.get_ident() == loop else elsewhere).append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, spy)

    async def story(history: History, disk: Disk) -> None:
        for module, names in ((os, ("open", "write", "fdatasync", "lstat", "rename")), (builtins, ("open",))):
            for name in names:
                spied(module, name)
        spied(writer, "line")
        history.note(item(1))
        await disk.finish(60)
        assert history.recent

    play(tmp_path, reports, story)
    assert here == []
    assert {"open", "write", "fdatasync", "line"} <= set(elsewhere)


@contextmanager
def small_disk(directory: Path, options: str) -> Iterator[None]:
    """A file system of its own there, seen by this thread and those that it starts."""
    with entered("mnt", CLONE_NEWNS):
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
        yield


def test_a_full_disk_is_a_failure_until_there_is_room_and_nothing_is_lost(
    tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_INTERVAL", 0.05)

    async def story(history: History, disk: Disk) -> None:
        for number in range(300):
            history.note(item(number))
        await until(lambda: failures(reports) == ["no space left on device"])
        assert all(map(parse, (tmp_path / NAME).read_bytes().splitlines())), "no torn line stays"
        (tmp_path / "ballast").unlink()
        await until(lambda: failures(reports) == [])
        assert numbers(tmp_path) == list(range(300))

    with small_disk(tmp_path, "size=160k"):
        (tmp_path / "ballast").write_bytes(b"x" * 100_000)
        play(tmp_path, reports, story)


def test_a_disk_that_can_only_be_read_is_a_failure_and_nothing_else(
    tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_INTERVAL", 0.05)

    async def story(history: History, disk: Disk) -> None:
        assert [change.value for change in history.recent] == ["master"]
        history.note(item(2))
        await until(lambda: failures(reports) == ["read-only file system"])
        assert len(history.recent) == 2, "the status shows it nevertheless"
        subprocess.run(["mount", "-o", "remount,rw", tmp_path], check=True)
        await until(lambda: failures(reports) == [])
        assert numbers(tmp_path) == [1, 2]

    with small_disk(tmp_path, "size=1m"):
        write(tmp_path, reports, item(1))
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        play(tmp_path, reports, story)


def test_what_waits_for_a_disk_is_bounded_and_the_newest_stay(
    tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_WAITING", 100)
    go_on = threading.Event()

    async def story(history: History, disk: Disk) -> None:
        disk.do("first", lambda: "" if go_on.wait(60) else "no")
        for number in range(250):
            history.note(item(number))
        go_on.set()
        await disk.finish(60)

    play(tmp_path, reports, story)
    assert numbers(tmp_path) == list(range(150, 250))


def test_a_start_says_how_the_daemon_before_ended(tmp_path: Path, reports: Reports) -> None:
    def unclean() -> str:
        said: list[str] = []

        async def story(history: History, disk: Disk) -> None:
            said.append(history.unclean)

        play(tmp_path, reports, story)
        return said[0]

    assert unclean() == ""
    write(tmp_path, reports, item(1))
    assert unclean() == "the daemon before this one crashed or was killed"
    path = tmp_path / NAME
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"boot": "another"}) + "\n")
    assert unclean() == "the machine went down before the daemon was stopped"
    write(tmp_path, reports, STOPPED)
    assert unclean() == ""


def test_the_last_three_changes_that_matter_go_on_across_a_restart(tmp_path: Path, reports: Reports) -> None:
    write(tmp_path, reports, item(1), item(2), item(3, "address", "192.0.2.1", "held"), item(4, "rank"))

    async def story(history: History, disk: Disk) -> None:
        assert [change.time[17:19] for change in history.recent] == ["01", "02"]
        history.note(item(5, "node", "haproxy2", "gone"))
        assert [change.time[17:19] for change in history.recent] == ["01", "02", "05"]
        for number in (6, 7, 8):
            history.note(item(number))
        assert [change.time[17:19] for change in history.recent] == ["06", "07", "08"]

    play(tmp_path, reports, story)


# The command


@pytest.fixture
def written(tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")

    async def story(history: History, disk: Disk) -> None:
        history.note(item(1, "node", "haproxy2", "gone", "silent for 0.31 s"))
        history.note(item(2, reason="haproxy2, which was master, is silent \x1b]0;x\x07"))
        history.took_over(TookOver("web", Phases(0.31, 0.0, 0.01, 0.04)))
        history.note(Item(3.0, NOON, "takeover", "web", "complete", "detected in 0.31 s\tand so on", True, ""))
        history.note(item(4, name="mail"))
        await disk.finish(60)

    play(tmp_path, reports, story)
    return tmp_path


def test_the_history_in_a_pipe_is_a_line_a_change(written: Path) -> None:
    status, said = floatip("history")
    assert status == 0
    first, *others = said.splitlines()
    assert first.split("  ")[1:3] == ["node haproxy2", "backup -> gone"]
    assert len(others) == 3
    assert "takeover web   complete in 0.36 s  detected in 0.31 s" in said
    assert not {"\x1b", "\x07"} & set(said)
    assert "\\x1b]0;x\\x07" in said


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_history_fits_its_terminal(width: int, written: Path) -> None:
    lines = history_command.drawn(read_history(written), width)
    assert max(map(len, lines)) <= width
    assert sum(line.startswith("2026-11-29 ") for line in lines) == 4


def test_json_and_tsv_say_all_of_it_with_the_same_names(written: Path) -> None:
    records = [json.loads(line) for line in floatip("history", "--json")[1].splitlines()]
    assert all(record.keys() == NAMES for record in records)
    assert records[2]["took"] == {"detected": 0.31, "decided": 0.0, "wire": 0.01, "acknowledged": 0.04}
    head, *rows = [line.split("\t") for line in floatip("history", "--tsv")[1].splitlines()]
    assert {len(row) for row in rows} == {len(head)}
    assert head == [*history_command.COLUMNS]
    tabled = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["name"] for row in tabled] == [record["name"] for record in records]
    assert (tabled[2]["detected"], tabled[0]["detected"]) == ("0.31", "")
    assert "\\t" in tabled[2]["reason"]


def test_only_an_instance_and_only_since_then(written: Path) -> None:
    def shown(*options: str) -> list[str]:
        said = floatip("history", "--json", *options)[1].splitlines()
        return [f"{one['what']} {one['name']}" for one in map(json.loads, said)]

    assert shown("--instance", "web") == ["role web", "takeover web"]
    assert shown("--since", "2026-11-29T12:00:02+00:00") == ["role web", "role mail"]
    assert floatip("history", "--instance", "api") == (0, "nothing changed of instance api\n")


@pytest.mark.parametrize(
    ("text", "ago"), [("90s", 90), ("2h", 7200), ("1h30m", 5400), ("7d", 604800), ("1d12h", 129600)]
)
def test_since_takes_a_duration(text: str, ago: float) -> None:
    assert abs((datetime.now(UTC) - history_command.since(text)).total_seconds() - ago) < 60


def test_since_takes_a_time_of_day_which_is_past() -> None:
    now = datetime.now().astimezone()
    for minutes in (-61, 61):
        at = now + timedelta(minutes=minutes)
        back = now - history_command.since(at.strftime("%H:%M"))
        assert timedelta(0) <= back <= timedelta(days=1, hours=2)  # a clock that is put forward or back that day


@pytest.mark.parametrize("text", ["", "yesterday", "2", "h", "-2h", "25:00", "2026-13-01", "2h 3", "9999999d", "٢h"])
def test_a_since_that_is_neither_is_named_with_what_it_may_be(text: str, written: Path) -> None:
    status, said = floatip("history", f"--since={text}")
    assert status == 2
    assert said.startswith(f"error: --since: {text!r} is not a duration such as 90s, 2h or 7d, or a time such as")


def test_where_no_daemon_has_run_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    status, said = floatip("history")
    assert status == 1
    assert said.startswith(f"error: there is no history at {tmp_path}/{NAME} [no-history]\nhint: ")


def test_a_user_who_may_not_read_it_learns_how_he_may(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(written / NAME))

    monkeypatch.setattr(history_command, "read_history", refuse)
    status, said = floatip("history")
    assert status == 4
    what = f"error: not allowed to read {written}/{NAME} [not-allowed]\nhint: sudo floatip history"
    assert said.startswith(f"{what}; or join the group")


def test_a_day_is_found_in_a_full_history_by_its_times_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_full(tmp_path)
    parsed: list[bytes] = []

    def spy(text: bytes) -> Change | None:
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(reader, "parse", spy)
    found = read_history(tmp_path, NOON + timedelta(seconds=25_000))
    assert [int(change.monotonic) for change in found] == list(range(25_000, 26_000))
    assert len(parsed) == 1000
    assert [int(change.monotonic) for change in read_history(tmp_path, most=10)] == list(range(25_990, 26_000))


def write_full(directory: Path) -> None:
    for begin in range(0, 26_000, 250):
        changes = [
            Change(stamp(NOON + timedelta(seconds=n)), n, "b" * 36, "n", "role", "web", "", "", "x" * 60)
            for n in range(begin, begin + 250)
        ]
        assert append(directory / NAME, b"".join(map(line, changes))) == ""
