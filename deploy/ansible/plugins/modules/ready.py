"""Waits until floatip on this node is ready to carry traffic."""

import json
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ready
short_description: Wait until floatip on a node is ready
description:
  - Asks the daemon until its instances are healthy and announced, and it hears the other nodes. Changes nothing.
options:
  timeout:
    description: Seconds to wait.
    type: float
    default: 120
  hears:
    description: The names of the nodes that it must hear, and that must hear it.
    type: list
    elements: str
    default: []
  all_nodes:
    description: Whether it must hear all nodes, with the same configuration.
    type: bool
    default: false
  seasoned:
    description: Whether route servers must believe it, which takes 30 s from a connection.
    type: bool
    default: false
author:
  - The floatip developers
"""
EXAMPLES = r"""
- name: Wait until this node is ready
  floatip.floatip.ready:
    all_nodes: true
"""
RETURN = r"""
status:
  description: What C(floatip status --json) printed last.
  returned: always
  type: dict
"""
INTERVAL = 0.5


def main():
    options = {
        "timeout": {"type": "float", "default": 120},
        "hears": {"type": "list", "elements": "str", "default": []},
        "all_nodes": {"type": "bool", "default": False},
        "seasoned": {"type": "bool", "default": False},
    }
    module = AnsibleModule(options, supports_check_mode=True)
    given = module.params
    deadline = time.monotonic() + given["timeout"]
    while True:
        status = ask()
        missing = list(lacks(status, given))
        if not missing:
            module.exit_json(changed=False, status=status)
        if time.monotonic() > deadline:
            head = f"floatip on this node is not ready after {given['timeout']:g} s:"
            hint = "hint: run floatip status there; docs/operate/firewall.md says which packets must pass"
            module.fail_json(msg="\n".join([head, *missing, hint]), lacks=missing, status=status)
        time.sleep(INTERVAL)


def ask():
    """Empty: no daemon answers."""
    done = subprocess.run(["floatip", "status", "--json"], capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.stdout else {}


def lacks(status, given):
    """What the node still lacks: sentences."""
    if not status:
        yield "no daemon answers"
        return
    for one in status["problems"]:
        if one["code"] in ("reload-refused", "restart-refused"):
            yield one["what"]
    for one in status["instances"]:
        if one["health"]["value"] != "up":
            yield f"{one['name']} is not healthy: {one['health']['reason']}"
        elif one["rank"]["value"] == "none":
            yield f"{one['name']} is not announced: {one['rank']['reason']}"
        for each in one["addresses"]:
            if one["route_servers"] and not each["announced_to"]:
                yield f"{each['address']} is announced to no route server yet"
    up = [one for one in status["sessions"] if one["state"] == "established"]
    if status["sessions"] and not up:
        yield f"no route server is connected: {status['sessions'][0]['reason']}"
    if given["seasoned"] and any(one["young"] for one in up):
        yield "its BGP sessions are younger than 30 s, so route servers may not believe it yet"
    for node in status["nodes"]:
        if node["own"] or not (given["all_nodes"] or node["name"] in given["hears"]):
            continue
        if node["state"] != "alive":
            yield f"{node['name']} is {node['state']}" + (f": {node['why']}" if node["why"] else "")
        elif node["hears_us"] is None:
            yield f"{node['name']} does not hear this node"
        elif given["all_nodes"] and node["same_configuration"] is False:
            yield f"{node['name']} has another configuration"


if __name__ == "__main__":
    main()
