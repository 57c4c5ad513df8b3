"""Filters of the role: the nodes of the inventory, floatip.toml from variables, and what a status still lacks."""

import ipaddress
import json

CARRYING = ("active", "takeover", "takeover-again")


def nodes(hosts, hostvars):
    """The tables [[node]]: of each host its name, and the address by which the other nodes reach it."""
    return [_node(host, hostvars[host]) for host in hosts]


def _node(host, variables):
    name = variables.get("floatip_node_name", host)
    address = variables.get("floatip_node_address", "") or _address(variables.get("ansible_host", host))
    return {"name": name, "address": address} | variables.get("floatip_node", {})


def _address(text):
    try:
        return str(ipaddress.ip_address(str(text)))
    except ValueError:
        return ""


def to_toml(tables):
    """floatip.toml. A list of dictionaries is an array of tables; a dictionary inside of a table is written inline."""
    plain = [(key, value) for key, value in tables.items() if not isinstance(value, dict) and not _is_array(value)]
    blocks = ["".join(map(_line, plain))] if plain else []
    for key, value in tables.items():
        head = f"[[{_key(key)}]]\n" if _is_array(value) else f"[{_key(key)}]\n"
        for table in value if _is_array(value) else [value] if isinstance(value, dict) else []:
            blocks.append(head + "".join(map(_line, table.items())))
    return "\n".join(blocks)


def _is_array(value):
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _line(pair):
    key, value = pair
    return f"{_key(key)} = {_value(value)}\n"


def _key(key):
    text = str(key)
    return text if text and all(each.isascii() and (each.isalnum() or each in "-_") for each in text) else _string(text)


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + " }"
    return _string(str(value))


def _string(text):
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def carries(status):
    """The names of the instances whose traffic goes to this node; `status`: what `floatip status --json` printed."""
    return [one["name"] for one in _read(status).get("instances", []) if one["rank"]["value"] in CARRYING]


def hears(status):
    """The names of the other nodes that are alive and hear this one."""
    return [node["name"] for node in _read(status).get("nodes", []) if _is_linked(node) and not node["own"]]


def standby_first(hosts, hostvars):
    """The hosts, those that carry nothing first."""
    return sorted(hosts, key=lambda host: bool(hostvars[host].get("floatip_carries")))


def lacks(status, must_hear=(), seasoned=False, alike=False):
    """What this node still lacks to carry traffic: sentences; none, and it is ready.

    `must_hear`: names of nodes; `alike`: with the same configuration. `seasoned`: also until route servers believe
    this node, 30 s after it has connected.
    """
    state = _read(status)
    if not state:
        return ["no daemon answers"]
    missing = [f"{one['subject'] or 'floatip'}: {one['what']}" for one in state["problems"] if _is_of_file(one)]
    for one in state["instances"]:
        if one["health"]["value"] != "up":
            missing.append(f"{one['name']} is not healthy: {one['health']['reason']}")
        for each in one["addresses"]:
            if one["rank"]["value"] == "none":
                missing.append(f"{each['address']} is not announced: {one['rank']['reason']}")
            elif one["route_servers"] and not each["announced_to"]:
                missing.append(f"{each['address']} is announced to no route server yet")
    up = [one for one in state["sessions"] if one["state"] == "established"]
    if state["sessions"] and not up:
        missing.append(f"no route server is connected: {state['sessions'][0]['reason']}")
    if seasoned and any(one["young"] for one in up):
        missing.append("its BGP sessions are younger than 30 s, so route servers may not believe it yet")
    by_name = {node["name"]: node for node in state["nodes"]}
    for name in must_hear:
        node = by_name.get(name)
        if not node:
            missing.append(f"{name} is no node of its configuration")
        elif not _is_linked(node):
            missing.append(f"{name} is {node['state']}" + (f": {node['why']}" if node["why"] else ""))
        elif alike and node["same_configuration"] is False:
            missing.append(f"{name} has another configuration")
    return missing


def _is_of_file(problem):
    return problem["code"] in ("reload-refused", "restart-refused")


def _is_linked(node):
    return node["own"] or (node["state"] == "alive" and node["hears_us"] is not None)


def _read(status):
    return json.loads(status) if status else {}


class FilterModule:
    def filters(self):
        found = (nodes, to_toml, carries, hears, standby_first, lacks)
        return {each.__name__: each for each in found}
