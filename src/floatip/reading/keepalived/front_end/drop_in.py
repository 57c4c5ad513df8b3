"""floatip.toml beside keepalived.conf: what that has no words for."""

from dataclasses import replace
from pathlib import Path

from floatip.model import Model
from floatip.reading.place import ConfigError, Places, Problem
from floatip.reading.toml import document, reader
from floatip.reading.toml.document import Document

NAME = "floatip.toml"
TABLES = ("linode", "bgp", "node", "link", "http", "notify", "log", "state_log", "release_delay")
SINGLE = ("log", "state_log", "release_delay")


def read(conf: Path, dcid: int | str | None) -> tuple[Model, Places, list[Problem]]:
    """`dcid`: of the command line. Raises `ConfigErrors`."""
    file = conf.with_name(NAME)
    found = document.read(str(file)) if file.exists() else Document(str(conf), {}, {})
    problems: list[Problem] = [
        ConfigError(found.file, found.line((key,)), key, f"cannot stand beside {conf.name}", hint(key, conf.name))
        for key in found.data
        if key not in TABLES
    ]
    allowed = {key: value for key, value in found.data.items() if key in TABLES}
    text, of_dcid = reader.with_dcid(replace(found, data=allowed), dcid)
    model, places, of_values = reader.model_of(text)
    return model, places, problems + of_dcid + of_values


def hint(key: str, conf: str) -> str:
    said = {"instance": "a vrrp_instance", "check": "a vrrp_script", "keepalived": "nothing"}
    if key in said:
        return f"remove it: {conf} says it, by {said[key]}" if key != "keepalived" else "remove it"
    return f"the tables here are {', '.join(f'[{table}]' for table in TABLES if table not in SINGLE)}"
