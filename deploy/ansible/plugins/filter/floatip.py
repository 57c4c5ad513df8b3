"""Filters of the role: the nodes of the inventory, floatip.toml from variables, and what a status says."""

import ipaddress
import json
import os
import re

SECRET = re.compile(r"md5|hmac|pass|pwd|token|secret|headers|authorization|://[^/\s]*@", re.IGNORECASE)
CARRYING = ("active", "takeover", "takeover-again")


def mistakes(given):
    """What is wrong with the variables of the role, each with what to do; `given`: by name, without "floatip_"."""
    found = []
    if given["deb"] and given["apt_sources"]:
        found.append("floatip_deb and floatip_apt_sources exclude each other: leave out one of the two")
    if given["deb"] and not version_of(given["deb"]):
        found.append(f"floatip_deb: {given['deb']} is not named floatip_VERSION_ARCHITECTURE.deb: keep the name it had")
    elif given["deb"] and not located(given["deb"], given["places"]):
        found.append(f"floatip_deb: no {given['deb']} in {' or '.join(given['places'])}: make deb builds one in dist/")
    for name in ("etcd_files", "member", "fleet"):
        if given[name] and not given["etcd"] and not given["config"]:
            found.append(f"floatip_{name} means nothing without etcd: set floatip_etcd, with its endpoints")
    unknown = sorted(set(given["etcd_files"]) - {"ca", "certificate", "key", "password"})
    if unknown:
        what = f"floatip_etcd_files: {', '.join(unknown)} is no file of [etcd]"
        found.append(f"{what}: the keys are ca, certificate, key and password")
    if given["config"]:
        return found
    if not given["announces"] and any(one.get("placement") != "master" for one in given["instances"]):
        what = "nothing would be announced, so no traffic would come: set floatip_dcid, or bgp in floatip_settings"
        found.append(f"{what}. If the nodes share one layer 2: placement: master, in floatip_instances")
    if not given["instances"] and not given["member"]:
        found.append("no floating address: set floatip_instances, such as [{name: web, addresses: [192.0.2.10/32]}]")
    if given["member"]:
        return found
    if len(given["nodes"]) < 2:
        what = f"the group {given['group']} of the inventory has {len(given['nodes'])} of the nodes, and two are needed"
        found.append(f"{what}: put all nodes into it, or set floatip_group or floatip_nodes")
    for node in given["nodes"]:
        if not node.get("address"):
            what = f"{node.get('name', 'a node of floatip_nodes')} has no address by which the others reach it"
            found.append(f"{what}: set floatip_node_address for the host, or ansible_host to an IP address")
    return found


def located(deb, places):
    """The path of a package on the controller: the first of the directories that has it; empty: none has."""
    paths = (os.path.join(place, os.path.expanduser(deb)) for place in places)
    return next(filter(os.path.isfile, paths), "")


def version_of(deb):
    """The version in the name of a package; empty: it has none."""
    parts = deb.rpartition("/")[2].split("_")
    return parts[1] if len(parts) == 3 and parts[0] == "floatip" and parts[2].endswith(".deb") else ""


def version_installed(status):
    """Of what `dpkg --status` printed; empty: it is not installed."""
    fields = dict(line.split(": ", 1) for line in status.splitlines() if ": " in line)
    return fields.get("Version", "") if fields.get("Status") == "install ok installed" else ""


def candidate(policy):
    """Of what `apt-cache policy` printed; empty: there is none."""
    fields = dict(line.strip().split(": ", 1) for line in policy.splitlines() if ": " in line)
    return fields.get("Candidate", "").replace("(none)", "")


def nodes(hosts, hostvars):
    """The tables [[node]]: of each host its name, and the address by which the other nodes reach it."""
    return [_node(host, hostvars[host]) for host in hosts]


def _node(host, variables):
    name = variables.get("floatip_node_name", host)
    address = variables.get("floatip_node_address", "") or _address(variables.get("ansible_host", host))
    return {"name": name, "address": address} | variables.get("floatip_node", {})


def member(hostvars, host):
    """The table [member] of a host. Without an address floatip takes the one with which it reaches etcd."""
    return {key: value for key, value in _node(host, hostvars[host]).items() if value != ""}


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


def has_secret(toml):
    """Whether anything in it looks like one: a diff that is not shown costs less than one that shows a secret."""
    return SECRET.search(toml) is not None


def is_drained(status):
    return any(node["own"] and node["drained"] for node in _read(status).get("nodes", []))


def carries(status):
    """The names of the instances whose traffic goes to this node; `status`: what `floatip status --json` printed."""
    return [one["name"] for one in _read(status).get("instances", []) if one["rank"]["value"] in CARRYING]


def hears(status):
    """The names of the other nodes that are alive and hear this one."""
    return [node["name"] for node in _read(status).get("nodes", []) if _is_linked(node) and not node["own"]]


def _is_linked(node):
    return node["own"] or (node["state"] == "alive" and node["hears_us"] is not None)


def _read(status):
    return json.loads(status) if status else {}


class FilterModule:
    def filters(self):
        found = (mistakes, located, version_of, version_installed, candidate, nodes, member, to_toml)
        found += (has_secret, carries, hears, is_drained)
        return {each.__name__: each for each in found}
