"""The pages that are made of the code: commands, metrics, the members of the status, and the man page.

`python -m tests.docs.reference` writes them.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from textwrap import dedent, wrap
from typing import Any

from floatip import cli, lelastic, notify
from floatip.commands import COMMANDS, Command, Option
from floatip.core.counters import Histogram
from floatip.core.snapshot import describe
from floatip.core.state import KeepalivedView, NodeView
from floatip.core.tally import collect
from floatip.web.metrics import render, render_as_keepalived
from tests.core.host import advert, master
from tests.core.schema import schema
from tests.web.views import CHANCE, ETCD, OWNED

DOCS = Path(__file__).parents[2] / "docs"
RAW: dict[str, Callable[[], str]] = {"lelastic": lelastic._usage, "notify": lambda: notify.USAGE}
"""Commands that read their arguments themselves."""
assert cli  # it fills COMMANDS


def between(name: str, page: Path, lines: Iterable[str]) -> str:
    """The page with these lines between its marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = page.read_text()
    head, tail = text[: text.index(begin)], text[text.index(end) :]
    return head + "\n".join([begin, "", *lines, "", tail])


def groups() -> Iterator[tuple[str, list[Command]]]:
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        yield group, [command for command in COMMANDS.values() if command.group == group]


def paragraphs(command: Command) -> list[str]:
    return [part for part in dedent(command.details).strip("\n").split("\n\n") if part.strip()]


def is_preformatted(text: str) -> bool:
    return bool(re.search(r"\S  +\S", text)) or text.startswith("haproxy.cfg: ")


def form(option: Option) -> str:
    """As it is written: `--port PORT`."""
    value = option.settings.get("metavar")
    if not option.names:
        return str(value)
    return ", ".join(option.names) + (f" {value}" if value else "")


# Commands


def command_lines() -> Iterator[str]:
    for number, (group, commands) in enumerate(groups()):
        yield from ([""] if number else [])
        yield f"## {group.capitalize()}"
        for command in commands:
            yield from ("", f"### `floatip {command.name}`", command.about, "")
            if usage := RAW.get(command.name):
                yield from ("```text", *usage().split("\n"), "```")
                continue
            yield from ("```text", usage_of(command), "```")
            for text in paragraphs(command):
                yield from ("", *(["```text", text, "```"] if is_preformatted(text) else [text]))
            if command.options:
                yield from ("", "| option | |", "|---|---|")
                for option in command.options:
                    yield f"| `{cell(form(option))}` | {cell(str(option.settings['help']))} |"
            if command.exits:
                yield from ("", "| exit status | means |", "|---|---|")
                yield from (f"| {status} | {cell(meaning)} |" for status, meaning in command.exits.items())


def usage_of(command: Command) -> str:
    """As argparse has it, whose form differs between versions of Python."""
    words = [f"floatip {command.name}", *map(written, command.options)]
    return "\n".join(wrap(" ".join(word.replace(" ", "\0") for word in words), 80, subsequent_indent=" " * 8)).replace(
        "\0", " "
    )


def written(option: Option) -> str:
    value = str(option.settings.get("metavar") or "")
    text = " ".join(part for part in (option.names[0] if option.names else "", value) if part)
    return text if is_needed(option) else f"[{text}]"


def is_needed(option: Option) -> bool:
    return not option.names and option.settings.get("nargs") is None


def cell(text: str) -> str:
    return text.replace("|", "\\|")


# Metrics


@dataclass(slots=True)
class Family:
    name: str
    kind: str
    about: str
    labels: dict[str, None]


def families(as_text: Callable[..., str]) -> list[Family]:
    """A node that has what each metric is of."""
    host = master()
    host.tell(advert(100), advert(100, vrid=99), replace(advert(100), source=IPv4Address("10.0.0.9")))
    keepalived = KeepalivedView(runs=True, for_=1.0, reason="", said=())
    nodes = (NodeView("haproxy2", "10.0.0.2", own=False, state="alive", heard=0.4),)
    status = replace(
        describe(host.node, host.now),
        nodes=nodes,
        keepalived=keepalived,
        time="2027-01-15T08:00:00+00:00",
        etcd=ETCD,
        second_chance=CHANCE,
    )
    instances = tuple(replace(one, etcd=OWNED) for one in status.instances)
    status = replace(status, second_chance=CHANCE, instances=instances)
    figures = collect(host.node, {"decided": Histogram.of(0.001)}, Histogram.of(0.001))
    figures = figures._replace(checks=figures.phases)
    found: dict[str, Family] = {}
    for line in as_text(status, figures).splitlines():
        if line.startswith("# HELP "):
            _, _, name, about = line.split(" ", 3)
            found[name] = Family(name, "", about, {})
        elif line.startswith("# TYPE "):
            found[line.split()[2]].kind = line.split()[3]
        else:
            name = line.partition("{")[0].partition(" ")[0]
            family = found.get(name) or found[re.sub(r"_(bucket|sum|count)$", "", name)]
            family.labels |= dict.fromkeys(label for label in re.findall(r'(\w+)="', line) if label != "le")
    return list(found.values())


def metric_lines() -> Iterator[str]:
    for title, as_text in (
        ("Of floatip", render),
        ("In the names of keepalived-exporter, with `?compat=keepalived`", render_as_keepalived),
    ):
        yield from (f"## {title}", "", "| metric | type | labels | means |", "|---|---|---|---|")
        for one in families(as_text):
            labels = ", ".join(f"`{label}`" for label in one.labels)
            yield f"| `{one.name}` | {one.kind} | {labels} | {cell(one.about)} |"
        yield ""


# The members of the status


def member_lines() -> Iterator[str]:
    kinds = schema()["$defs"]
    order = dict.fromkeys(["Status"])
    while True:
        more = {kind for name in order for kind in re.findall(r"#/\$defs/(\w+)", str(kinds[name]))} - order.keys()
        if not more:
            break
        order |= dict.fromkeys(sorted(more))
    for name in order:
        yield from (f"## {title(name)}", "")
        if about := kinds[name].get("description"):
            yield from (about, "")
        yield from ("| member | type | |", "|---|---|---|")
        for member, form in kinds[name]["properties"].items():
            about = re.sub(r"\bNone\b", "null", form.get("description", ""))
            yield f"| `{member}` | {kind_of(form)} | {cell(about)} |"
        yield ""


def title(name: str) -> str:
    return (
        "The answer"
        if name == "Status"
        else re.sub(r"(View|Brief)$", lambda end: {"View": ""}.get(end[0], " brief"), name)
    )


def kind_of(form: dict[str, Any]) -> str:
    if "enum" in form:
        return "one of " + ", ".join(f"`{value}`" for value in form["enum"])
    if "anyOf" in form:
        return " or ".join(kind_of(each) for each in form["anyOf"])
    if "$ref" in form:
        name = title(form["$ref"].rpartition("/")[2])
        return f"[{name}](#{name.lower().replace(' ', '-')})"
    if form["type"] == "array":
        return f"list of {kind_of(form['items'])}"
    if form["type"] == "object":
        return f"object of {kind_of(form['additionalProperties'])}"
    return str(form["type"])


# The man page


def man_lines() -> Iterator[str]:
    for group, commands in groups():
        yield f".SS {group.capitalize()}"
        for command in commands:
            yield ".TP"
            yield rf".B {command.name}\fR" + "".join(f" {man_form(option)}" for option in command.options)
            yield roff(command.about)
            if usage := RAW.get(command.name):
                yield from (".PP", ".RS", ".nf", *map(roff, usage().split("\n")), ".fi", ".RE")
                continue
            for text in paragraphs(command):
                is_code = is_preformatted(text)
                yield from (
                    ".IP",
                    *([".nf"] if is_code else []),
                    *map(roff, text.split("\n")),
                    *([".fi"] if is_code else []),
                )
            if command.options:
                yield ".RS"
                for option in command.options:
                    yield from (".TP", rf"\fB{roff(form(option))}\fR", roff(str(option.settings["help"])))
                yield ".RE"
            if command.exits:
                exits = "; ".join(f"{status}: {meaning}" for status, meaning in command.exits.items())
                yield from (".IP", roff(f"Exit status {exits}."))


def man_form(option: Option) -> str:
    value = str(option.settings.get("metavar") or "")
    name = option.names[0] if option.names else ""
    shown = " ".join(
        part for part in (rf"\fB{roff(name)}\fR" if name else "", rf"\fI{roff(value)}\fR" if value else "") if part
    )
    return shown if is_needed(option) else f"[{shown}]"


def roff(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


MARK = '.\\" commands\n'


def man_page() -> str:
    head, tail = (DOCS / "man" / "floatip.8.in").read_text().split(MARK)
    made = '.\\" Made by python -m tests.docs.reference from floatip.8.in and the table of the commands.\n'
    return made + head + "\n".join(man_lines()) + "\n" + tail


PAGES: dict[Path, Callable[[Path], str]] = {
    DOCS / "reference" / "commands.md": lambda page: between("commands", page, command_lines()),
    DOCS / "reference" / "metrics.md": lambda page: between("metrics", page, metric_lines()),
    DOCS / "reference" / "status-json.md": lambda page: between("members", page, member_lines()),
    DOCS / "man" / "floatip.8": lambda page: man_page(),
}


if __name__ == "__main__":
    for path, made in PAGES.items():
        path.write_text(made(path))
