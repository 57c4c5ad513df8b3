"""How somebody becomes root, or another user, by way of keepalived."""

import os
from collections.abc import Iterator
from pathlib import Path

from floatip.reading.keepalived import KeepalivedConf, Place
from floatip.reading.keepalived.lint.commands import commands, script_users
from floatip.reading.keepalived.lint.facts import Finding, MachineFacts, taken_back
from floatip.reading.rights import SeenFile, User

WRITABLE = "others-can-write"
SHARED = "read-from-shared-directory"
SUDO = "sudo-without-password"


def check(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
    yield from what_others_can_change(conf, facts)
    yield from shared_directories(conf, facts)
    yield from _sudo_rules(facts, script_users(conf, facts))


def what_others_can_change(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
    uses = [(file, Place(file, 0), facts.users["root"]) for file in conf.files]
    uses += [(path, each.statement.place, each.user) for each in commands(conf, facts) for path in each.paths]
    found: dict[Path, Finding] = {}
    for path, place, user in uses:
        real = facts.real.get(path, path)
        for part in (real, *real.parents, path, *path.parents):
            seen = facts.files.get(part)
            if seen and (who := _who_else(seen, user, facts)):
                what = f"{who} can change {part}, and with it what {user.name} reads or runs"
                hint = _taken_back(path, part, seen, script_users(conf, facts))
                found.setdefault(part, Finding(WRITABLE, "danger", place, what, hint))
    yield from (found[part] for part in sorted(found))


def _who_else(seen: SeenFile, user: User, facts: MachineFacts) -> str:
    """Who can change the file, or replace what lies in the directory; empty: only root and the user."""
    others = [one for one in facts.users.values() if one.uid not in (0, user.uid)]
    if seen.uid not in (0, user.uid):
        return next((one.name for one in others if one.uid == seen.uid), f"user {seen.uid}")
    if seen.is_sticky:
        return ""
    if seen.mode & 0o002:
        return "everybody"
    if seen.has_acl and seen.mode & 0o020:
        return "somebody whom its ACL names"
    return ", ".join(one.name for one in others if seen.mode & 0o020 and seen.gid in one.gids)


def _taken_back(path: Path, part: Path, seen: SeenFile, users: list[User]) -> str:
    """The command. A script user who can read or run the file now can do so afterwards."""
    command = taken_back(path, part, seen)
    for user in users if command.startswith("chown") else ():
        needs = sum(bit for bit in (os.R_OK, os.X_OK) if seen.may(user, bit))
        if user.group and needs & ~seen.mode:
            return f"chown root:{user.group} {part} && chmod {(seen.mode | needs << 3) & 0o755:o} {part}"
    return command


def shared_directories(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
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
