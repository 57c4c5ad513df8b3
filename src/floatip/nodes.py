"""`floatip nodes`: all nodes in one table, as the node on this machine knows them."""

import json
import shutil
from typing import NoReturn

from floatip.core.state import NodeView, Status
from floatip.host.ask import Record
from floatip.status import answered, repeat
from floatip.view import draw_nodes

NONE = """\
no [[node]] is configured: this node knows no others
hint: name all nodes in the configuration, each with a [[node]] table; floatip status shows this one"""


def show(*, as_json: bool) -> int:
    answer, status = answered()
    print(_drawn(answer, status, as_json=as_json))
    return 0 if status.nodes and all(map(_is_well_linked, status.nodes)) else 1


def watch(*, as_json: bool) -> NoReturn:
    repeat(lambda: _drawn(*answered(), as_json=as_json), as_json=as_json)


def _is_well_linked(node: NodeView) -> bool:
    return node.own or (node.state == "alive" and node.hears_us is not None)


def _drawn(answer: Record, status: Status, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(answer.get("nodes", []), indent=2)
    return draw_nodes(status.nodes, shutil.get_terminal_size().columns) if status.nodes else NONE
