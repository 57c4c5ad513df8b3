"""How somebody becomes root, or another user, by way of keepalived."""

import os
from collections.abc import Iterator
from pathlib import Path

from floatip.reading.keepalived import KeepalivedConf, Place
from floatip.reading.keepalived.lint.commands import commands, script_users
from floatip.reading.keepalived.lint.facts import MachineFacts
from floatip.reading.keepalived.lint.finding import Finding
from floatip.reading.rights import SeenFile, User

WRITABLE = "others-can-write"
SHARED = "read-from-shared-directory"
SUDO = "sudo-without-password"


def check(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
    yield from _what_others_can_change(conf, facts)
    yield from _shared_directories(conf, facts)
    yield from _sudo_rules(facts, script_users(conf, facts))


def _what_others_can_change(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
    uses = [(file, Place(file, 0), facts.users["root"]) for file in conf.files]
    uses += [(path, each.statement.place, each.user) for each in commands(conf, facts) for path in each.paths]
    found: dict[Path, tuple[Place, User, list[str]]] = {}
    for user in _others(facts, script_users(conf, facts)):
        for path, place, runs in uses:
            for part in _changeable(facts, user, path) if runs.uid != user.uid else ():
                _, _, names = found.setdefault(part, (place, runs, []))
                names += [user.name] if user.name not in names else []
    users = script_users(conf, facts)
    for part, (place, runs, names) in sorted(found.items()):
        what = f"{_some(names)} can change {part}, and with it what {runs.name} reads or runs"
        yield Finding(WRITABLE, "danger", place, what, _taken_back(part, facts.files[part], users))


def _taken_back(path: Path, seen: SeenFile, users: list[User]) -> str:
    """The command. A script user who can read or run the file now can do so afterwards."""
    for user in users:
        needs = sum(bit for bit in (os.R_OK, os.X_OK) if seen.may(user, bit))
        if user.group and needs & ~seen.mode:
            return f"chown root:{user.group} {path} && chmod {(seen.mode | needs << 3) & 0o755:o} {path}"
    return f"chown root:root {path} && chmod go-w {path}"


def _others(facts: MachineFacts, first: list[User]) -> list[User]:
    """Everybody but root, also owners without a name."""
    named = [*first, *(user for user in facts.users.values() if user.uid > 0 and user not in first)]
    owners = {seen.uid for seen in facts.files.values()} - {0, *(user.uid for user in named)}
    return [*named, *(User(f"user {uid}", uid) for uid in sorted(owners))]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _changeable(facts: MachineFacts, user: User, path: Path) -> list[Path]:
    """The file, and the directories above it, that the user can change."""
    real = facts.real.get(path, path)
    parts = (real, *real.parents, path, *path.parents)
    return [part for part in parts if part in facts.files and facts.files[part].can_change(user)]


def _shared_directories(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
    for directory, file in {facts.real.get(file, file).parent: file for file in reversed(conf.files)}.items():
        seen = facts.files.get(directory)
        if seen and seen.is_sticky and seen.mode & 0o002:  # as /tmp is
            what = f"keepalived's configuration is read from {directory}, where anybody can put files"
            yield Finding(SHARED, "danger", Place(file, 0), what, "include from a directory that only root can write")


def _sudo_rules(facts: MachineFacts, users: list[User]) -> Iterator[Finding]:
    for user in users:
        for allowed in facts.sudo.get(user.name, ()):
            what = f"{user.name} may run {allowed} as root without a password, and so may whoever changes its script"
            hint = "once no script calls sudo, remove this line (visudo), which floatip does not need: "
            hint += f"grep -r {user.name} /etc/sudoers /etc/sudoers.d"
            yield Finding(SUDO, "danger", Place(Path("/etc/sudoers"), 0), what, hint)
