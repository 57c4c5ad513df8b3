"""The fleet's part of a configuration: what stands at etcd for all nodes, beside the few lines of this node's file.

The daemon keeps the last version that it could use, and the members, in its state directory: a node starts while etcd
is gone, and `floatip check` knows both parts.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from floatip.core.settings import Node
from floatip.fleet import rows
from floatip.model import PREFIX
from floatip.reading import regular, state
from floatip.reading.place import ConfigError, ConfigErrors, Problem, Thing
from floatip.reading.toml import document
from floatip.reading.toml import values as v
from floatip.reading.toml.document import Document
from floatip.reading.toml.tables import TOP, Items, Key, Short, Table
from floatip.reading.words import listed

NAME = "fleet.json"
LARGEST = 4 << 20
OF_FLEET = ("linode", "bgp", "link", "second_chance", "check", "instance", "release_delay")
OWN = {
    "etcd": "it is how a node finds the fleet's configuration",
    "member": "each node has a name of its own",
    "node": "the members register themselves",
}
"""Why a table is in each node's file."""
OF_MACHINE: dict[Thing, str] = {
    ("bgp", "source"): "it is this machine's",
    ("bgp", "router_id"): "each node needs another",
    ("bgp", "md5"): "it is a secret, and everybody who may read there sees it",
    ("instance", "vrrp"): "it has this machine's interface and address",
    ("instance", "keepalived"): "it is of this machine's keepalived",
    ("instance", "static"): "the nodes would have different roles",
    ("instance", "notify"): "it runs programs of this machine",
}
"""Why a key is not in the fleet's part."""
PROGRAM = "whoever may write to etcd could run programs on every node"
PATH = "it is a path of one machine"
NO_USE = OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError
"""What reading a file with something else in it raises."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a node knows of its fleet."""

    row: str = ""
    """The row `config`, as it stands at etcd; empty: none, or it is not known."""
    members: tuple[Node, ...] = ()
    prefix: str = ""
    has_left: bool = False
    """This node, until `floatip fleet join`: it carries nothing and knows nobody."""
    name: str = ""
    """What messages call a row that is not at etcd yet."""


NOTHING = Known()


def recall() -> Known:
    """What the daemon has kept."""
    for place in state.places():
        with suppress(*NO_USE), regular.looked_at(place / NAME) as descriptor:
            return unplain(json.loads(regular.read_from(descriptor, LARGEST)))
    return NOTHING


def unplain(kept: Mapping[str, Any]) -> Known:
    """As `plain` has it. Raises what a file with something else in it leads to."""
    members = tuple(rows.member(name, json.dumps(row)).node for name, row in kept["members"].items())
    return Known(str(kept["config"]), members, str(kept["prefix"]), kept["left"] is True)


def plain(one: Known) -> dict[str, Any]:
    members = {node.name: json.loads(rows.member_row(rows.Member(node))) for node in one.members}
    return {"config": one.row, "members": members, "prefix": one.prefix, "left": one.has_left}


def has_part(local: Document) -> bool:
    """Whether part of its configuration may be at etcd."""
    return "etcd" in local.data and "node" not in local.data


def whole(local: Document, known: Known | None) -> tuple[Document, list[Problem], Known]:
    """With the fleet's part, what is wrong with the seam, and what is known. Raises `ConfigErrors`."""
    if not has_part(local):
        return local, [], NOTHING
    kept = recall() if known is None else known
    if kept.prefix != prefix_of(local):
        kept = Known(prefix=prefix_of(local))
    if not kept.row:
        return local, [], kept
    return *composed(local, parsed(kept)), kept


def prefix_of(local: Document) -> str:
    """Empty: it is refused."""
    table = local.data.get("etcd")
    given = table.get("prefix", PREFIX) if isinstance(table, dict) else ""
    try:
        return str(v.etcd_prefix(given))
    except v.Wrong:
        return ""


def is_of_fleet(error: ConfigError, one: Known) -> bool:
    """Whether it is about the fleet's part."""
    return error.file.startswith(_called(one))


def _called(one: Known) -> str:
    return one.name or f"etcd {one.prefix}{rows.CONFIG}"


def parsed(one: Known) -> Document:
    """The fleet's part. Raises `ConfigErrors`."""
    name = _called(one)
    try:
        config = rows.config(one.row)
    except rows.Odd as error:
        where = f"{one.prefix}{rows.CONFIG}"
        hint = f"look at it: etcdctl get {where}; to replace it: etcdctl del {where}; then: floatip fleet apply FILE"
        raise ConfigErrors([ConfigError(name, 0, "", f"the row {error}", hint)]) from None
    return document.parse(one.name or f"{name} (version {config.version})", config.toml.encode())


def composed(local: Document, part: Document) -> tuple[Document, list[Problem]]:
    """Both as one document, in which each thing knows where it stands, and what is wrong with the seam."""
    problems: list[Problem] = [*misplaced(part)]
    data, lines, elsewhere = dict(local.data), dict(local.lines), dict(local.elsewhere)
    for key, value in part.data.items():
        if key not in data:
            data[key] = value
            elsewhere[key,] = part.file
            lines |= {thing: line for thing, line in part.lines.items() if thing[0] == key}
        elif key == "check" and isinstance(value, list) and isinstance(data[key], list):
            first = len(data[key])
            data[key] = [*data[key], *value]
            elsewhere |= {(key, first + number): part.file for number in range(len(value))}
            lines |= {
                _behind(thing, first): line for thing, line in part.lines.items() if thing[0] == key and thing[1:]
            }
        elif key in OF_FLEET:
            what = f"stands in {part.file} too, line {part.line((key,))}"
            hint = f"remove {_header(key, value)} here, or there: floatip fleet get, and then apply it without"
            problems.append(ConfigError(local.file, local.line((key,)), key, what, hint))
    if "instance" not in data:  # `apply` writes none such, and with it all nodes would release all they have
        what, hint = "there is no [[instance]]", "add one: it names the addresses to keep"
        problems.append(ConfigError(part.file, 0, "", what, hint))
    return replace(local, data=data, lines=lines, elsewhere=elsewhere), problems


def _behind(thing: Thing, first: int) -> Thing:
    kind, index, *rest = thing
    return (kind, index + first, *rest) if isinstance(index, int) else thing


def _header(key: str, value: object) -> str:
    return f"[[{key}]]" if isinstance(value, list) else f"[{key}]" if isinstance(value, dict) else key


def misplaced(part: Document) -> Iterator[ConfigError]:
    """What stands in the fleet's part and is of one node."""

    def error(thing: Thing, what: str, hint: str) -> ConfigError:
        return ConfigError(part.file, part.line(thing), part.path(thing), what, hint)

    for key, value in part.data.items():
        if key in OF_FLEET:
            yield from _of_machine(part, TOP.keys[key], value, (key,), error)
        elif key in TOP.keys:
            why = OWN.get(key, "it is of one machine")
            hint = f"write it into the file of each node; here belong {listed(OF_FLEET)}"
            yield error((key,), f"does not belong to the fleet's configuration: {why}", hint)


def _of_machine(part: Document, known_key: Key, value: Any, at: Thing, error: Any) -> Iterator[ConfigError]:
    kind = known_key.kind
    if why := OF_MACHINE.get((at[0], at[-1]), "") if len(at) <= 3 else "":
        yield error(at, f"does not belong to the fleet's configuration: {why}", _hint(at))
    elif kind is v.command or (at[0] == "check" and at[-1] in ("user", "group")):
        yield error(at, f"does not belong to the fleet's configuration: {PROGRAM}", _hint(at))
    elif kind in (v.path, v.secret_path) or (at[-1] == "process" and isinstance(value, str) and value.startswith("/")):
        yield error(at, f"does not belong to the fleet's configuration: {PATH}", _hint(at))
    elif isinstance(kind, Items) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _of_machine(part, Key(kind.kind), item, (*at, index), error)
    elif isinstance(kind, Table | Short) and isinstance(value, dict):
        table = kind.table if isinstance(kind, Short) else kind
        for key, inner in value.items():
            if key in table.keys:
                yield from _of_machine(part, table.keys[key], inner, (*at, key), error)


def _hint(at: Thing) -> str:
    if at[0] == "check":
        return "write this [[check]] into the file of each node; the instances here may name it"
    return f"remove it here, or write [{at[0]}] into the file of each node" if at[0] != "instance" else "remove it"
