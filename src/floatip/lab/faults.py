"""What can go wrong in the network: the router drops packets, by rules of nftables.

A fault never touches a link: a host that crashes on a cloud goes silent, and nobody sees its carrier go. A fault is in
force when its method returns, and so is its end.
"""

import subprocess

from floatip.lab.namespaces import Namespace, find_program

VRRP = "ip protocol 112"


class Faults:
    def __init__(self, router: Namespace) -> None:
        self._router = router
        self._dropped: set[str] = set()
        """What matches the packets that the router drops. Its end of a link has the name of the host."""

    def cut(self, host: str) -> None:
        """All IP packets of the host vanish, both ways, and its link stays up: a crash as its neighbours see it."""
        self._apply(self._dropped | _packets_of(host))

    def heal(self, host: str) -> None:
        self._apply(self._dropped - _packets_of(host))

    def cut_pair(self, one: str, other: str) -> None:
        """The two hosts lose each other; the rest of the network reaches both."""
        self._apply(self._dropped | {f'iifname "{a}" oifname "{b}"' for a, b in ((one, other), (other, one))})

    def cut_vrrp(self) -> None:
        """Adverts no longer get through between the nodes."""
        self._apply(self._dropped | {VRRP})

    def heal_vrrp(self) -> None:
        self._apply(self._dropped - {VRRP})

    def heal_all(self) -> None:
        self._apply(set())

    def _apply(self, dropped: set[str]) -> None:
        self._dropped = dropped
        rules = "\n".join(f"{match} drop" for match in sorted(dropped))
        hooks = ("input", "forward", "output")
        chains = "".join(f"chain {hook} {{\ntype filter hook {hook} priority 0\n{rules}\n}}\n" for hook in hooks)
        # nft takes its input as one transaction: the table is replaced at once, whatever it held.
        ruleset = f"table inet lab\ndelete table inet lab\ntable inet lab {{\n{chains}}}\n"
        with self._router.inside():
            subprocess.run([find_program("nft", "nftables"), "-f", "-"], input=ruleset, text=True, check=True)


def _packets_of(host: str) -> set[str]:
    return {f'iifname "{host}"', f'oifname "{host}"'}
