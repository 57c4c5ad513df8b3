"""What can go wrong in the network: packets vanish, by rules of nftables.

A fault never touches a link: a host that crashes on a cloud goes silent, and nobody sees its carrier go. A fault is in
force when its method returns, and so is its end.
"""

import subprocess
from collections.abc import Iterable

from floatip.core.settings import LINK_PORT as PORT
from floatip.lab.namespaces import Namespace, find_program

ELECTION = {"ip protocol 112", f"udp dport {PORT}"}


class Faults:
    def __init__(self, router: Namespace, hosts: dict[str, Namespace], family: str) -> None:
        """`family`: nftables' name for what the router forwards."""
        self._family = family
        self._router = router
        self._hosts = hosts
        self.cut_off: set[str] = set()
        """Hosts."""
        self._dropped: set[str] = set()

    def cut(self, *hosts: str) -> None:
        """All packets of the hosts vanish, both ways, and their links stay up: a crash as the neighbours see it."""
        self.cut_off.update(hosts)
        self._apply(*hosts)

    def heal(self, host: str) -> None:
        self.cut_off.discard(host)
        self._apply(host)

    def cut_pair(self, one: str, other: str) -> None:
        """The two hosts lose each other; the rest of the network reaches both."""
        self._dropped |= _between(one, other)
        self._apply()

    def heal_pair(self, one: str, other: str) -> None:
        self._dropped -= _between(one, other)
        self._apply()

    def cut_from(self, host: str, others: Iterable[str]) -> None:
        """As `cut_pair` with each of the others, at once."""
        for other in others:
            self._dropped |= _between(host, other)
        self._apply()

    def heal_from(self, host: str, others: Iterable[str]) -> None:
        for other in others:
            self._dropped -= _between(host, other)
        self._apply()

    def cut_election(self) -> None:
        """What the nodes tell each other no longer gets through: adverts and the link."""
        self._dropped |= ELECTION
        self._apply()

    def cut_link(self, sender: str, receiver: str, share: float = 1.0) -> None:
        """`share` of the datagrams of the one no longer reach the other."""
        some = "" if share == 1 else f" numgen random mod 100 < {share * 100:.0f}"
        self._dropped.add(f'iifname "{sender}" oifname "{receiver}" udp dport {PORT}{some}')
        self._apply()

    def heal_link(self) -> None:
        self._dropped = {rule for rule in self._dropped if f"udp dport {PORT}" not in rule}
        self._apply()

    def heal_election(self) -> None:
        self._dropped -= ELECTION
        self._apply()

    def heal_all(self) -> None:
        hosts = list(self.cut_off)
        self.cut_off.clear()
        self._dropped.clear()
        self._apply(*hosts)

    def _apply(self, *hosts: str) -> None:
        # Ingress alone, at both ends of the link: the egress hook is younger than some kernels in use.
        dropped = [f"{match} drop" for match in sorted(self._dropped)]
        forward = _table(self._family, [_chain("forward", "filter hook forward", dropped)])
        _load(self._router, forward + _table("netdev", [_drop_all(host) for host in sorted(self.cut_off)]))
        for host in hosts:
            _load(self._hosts[host], _table("netdev", [_drop_all("eth0")] if host in self.cut_off else []))


def _load(namespace: Namespace, ruleset: str) -> None:
    with namespace.inside():
        subprocess.run([find_program("nft", "nftables"), "-f", "-"], input=ruleset, text=True, check=True)


def _table(family: str, chains: list[str]) -> str:
    # nft takes its input as one transaction: the table is replaced at once, whatever it held.
    table = f"table {family} lab"
    return "\n".join([table, f"delete {table}", f"{table} {{", *chains, "}", ""])


def _drop_all(interface: str) -> str:
    return _chain(interface, f'filter hook ingress device "{interface}"', ["drop"])


def _chain(name: str, hook: str, rules: list[str]) -> str:
    return "\n".join([f"chain {name} {{", f"type {hook} priority 0", *rules, "}"])


def _between(one: str, other: str) -> set[str]:
    # The router's end of a link has the name of the host.
    return {f'iifname "{a}" oifname "{b}"' for a, b in ((one, other), (other, one))}
