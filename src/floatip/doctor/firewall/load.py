"""Reads the rules of this machine: nftables, and iptables in both of its forms."""

import json
from contextlib import suppress
from typing import Any

from floatip.doctor.firewall import iptables, nft
from floatip.doctor.firewall.rules import Rule, Table
from floatip.doctor.host import Host, Missing, Unseen

NFT = ("nft", "-j", "list", "ruleset")
OWN = "floatip_sc"
"""The tables of the second chance: they pass on what is no packet of this machine's, and let all others through."""
TEXT = ("nft", "-a", "list", "ruleset")


def load(host: Host) -> tuple[list[Table], list[str]]:
    """The tables, and what could not be read. Raises `Unseen`."""
    if not host.is_root:
        raise Unseen("only root may read the rules of the firewall")
    found: list[Table] = []
    unread: list[str] = []
    try:
        found += _nftables(host)
    except Missing as error:
        found += _without_nft(host, str(error), unread)
    except (KeyError, TypeError, ValueError) as error:
        raise Unseen(f"the answer of nft is not understood: {type(error).__name__}") from None
    for version, names, save in (
        (4, "/proc/thread-self/net/ip_tables_names", "iptables-legacy-save"),
        (6, "/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy-save"),
    ):
        if not _has_legacy(host, names):
            continue
        try:
            found += iptables.tables(host.run(save), version, save)
        except (Unseen, ValueError) as error:
            unread.append(f"rules of legacy iptables are not seen: {error}")
    return found, unread


def _without_nft(host: Host, why: str, unread: list[str]) -> list[Table]:
    """The tables that iptables shows, and what it does not show. Raises `Unseen`."""
    there = {one for one in host.nft_tables() if one[1] != OWN}
    found: list[Table] = []
    for version, save in ((4, "iptables-nft-save"), (6, "ip6tables-nft-save")):
        family = "ip" if version == 4 else "ip6"
        if any(one == family and name in iptables.BASES for one, name in there):
            with suppress(Missing):
                found += iptables.tables(host.run(save), version, save)
    shown = {(table.family, table.name) for table in found if any(chain.hook for chain in table.chains.values())}
    if hidden := sorted(there - shown):
        names = ", ".join(" ".join(one) for one in hidden)
        unread.append(f"the rules of {names} are not seen: {why}")
    return found


def _has_legacy(host: Host, names: str) -> bool:
    with suppress(Unseen):
        return bool(host.text(names).strip())
    return False


def _nftables(host: Host) -> list[Table]:
    ruleset: dict[str, Any] = json.loads(host.run(*NFT))
    found = nft.tables(ruleset, host.run(*TEXT))
    rules = [item["rule"] for item in ruleset["nftables"] if "rule" in item]
    if any(nft.has_compatibility(one["expr"]) for one in rules):
        _with_iptables(host, found, rules)
    return [table for table in found if table.name != OWN]


def _with_iptables(host: Host, found: list[Table], rules: list[dict[str, Any]]) -> None:
    """The parts of rules that only iptables-nft can show, in its words.

    Only those: it shows a rule of nft's own as less than it is.
    """
    for version, family, save in ((4, "ip", "iptables-nft-save"), (6, "ip6", "ip6tables-nft-save")):
        shown: list[Table] = []
        with suppress(Unseen, ValueError):
            shown = iptables.tables(host.run(save), version, save)
        for theirs in shown:
            table = next((one for one in found if (one.family, one.name) == (family, theirs.name)), None)
            if not table:
                continue
            table.source = save
            for name, chain in table.chains.items():
                given = [
                    one for one in rules if (one["family"], one["table"], one["chain"]) == (family, table.name, name)
                ]
                said = theirs.chains[name].rules if name in theirs.chains else []
                if len(said) != len(given):
                    continue
                for index, (one, same) in enumerate(zip(given, said, strict=True)):
                    steps = same.steps if nft.has_compatibility(one["expr"]) else chain.rules[index].steps
                    chain.rules[index] = Rule(same.text, steps)
