"""What the evaluator says of a packet is what the kernel does with it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floatip.doctor.context import Context
from floatip.doctor.finding import Finding, Grade
from floatip.doctor.firewall import looker
from floatip.doctor.firewall.front_end import mending
from floatip.doctor.firewall.iptables import BASES
from floatip.doctor.firewall.load import load
from floatip.doctor.firewall.packet import Answer, Because, Verdict
from floatip.doctor.firewall.rules import evaluate
from floatip.doctor.host import Missing, ThisMachine
from floatip.model import Here
from tests.doctor.contexts import model
from tests.doctor.recorded import Recorded
from tests.doctor.rulesets import ALL, ESTABLISHED, STATEFUL, Ruleset, filter_, inet, raw
from tests.doctor.two_namespaces import NODE, PEER, PEER6, STRANGER, Cable, cable, probes, sh

FLUSH = "nft flush ruleset"


@pytest.fixture(scope="module")
def wire() -> Iterator[Cable]:
    with cable() as made:
        yield made


@pytest.fixture(autouse=True)
def no_rules(wire: Cable) -> Iterator[None]:
    yield
    clean(wire)


def clean(wire: Cable) -> None:
    with wire.node.inside():
        sh(FLUSH)
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            names = sh(f"cat /proc/thread-self/net/{tool.removesuffix('-legacy').replace('tables', '_tables')}_names")
            for table in names.split():
                policies = "\n".join(f":{chain} ACCEPT [0:0]" for chain in BASES[table])
                sh(f"{tool}-restore", f"*{table}\n{policies}\nCOMMIT\n")


def install(wire: Cable, ruleset: Ruleset) -> None:
    kind = "legacy" if ruleset.is_legacy else "nft"
    with wire.node.inside():
        if ruleset.nft:
            sh("nft -f -", ruleset.nft.replace("} }", "}\n}"))
        for tool, text in (("iptables", ruleset.iptables), ("ip6tables", ruleset.ip6tables)):
            if text:
                sh(f"{tool}-{kind}-restore", text)


def answers(wire: Cable) -> dict[str, Answer]:
    with wire.node.inside():
        tables, unread = load(ThisMachine())
    assert not unread
    return {name: evaluate(tables, packet) for name, packet in probes().items()}


@pytest.mark.parametrize("ruleset", ALL, ids=lambda one: one.name)
def test_the_kernel_does_what_is_said(wire: Cable, ruleset: Ruleset) -> None:
    install(wire, ruleset)
    said = answers(wire)
    unknown = {name for name, answer in said.items() if answer.verdict is Verdict.UNKNOWN}
    assert unknown == ruleset.unknown, {name: said[name] for name in unknown ^ ruleset.unknown}
    compare(wire, said)


def compare(wire: Cable, said: dict[str, Answer]) -> None:
    for name, packet in probes().items():
        answer = said[name]
        if answer.verdict is Verdict.UNKNOWN:
            continue
        passes = answer.verdict is Verdict.ACCEPT
        if name == "BGP answer":  # there is one only where the SYN leaves
            if said["BGP out"].verdict is Verdict.UNKNOWN:
                continue
            passes = passes and said["BGP out"].verdict is Verdict.ACCEPT
        assert wire.passes(packet) == passes, f"{name}: {answer}"


# Small rulesets that nobody thought of

MATCHES = (
    f"ip saddr {PEER}",
    f"ip saddr != {PEER}",
    f"ip saddr {{ {PEER}, {STRANGER} }}",
    "ip saddr 10.9.0.2/31",
    f"ip daddr {NODE}",
    "ip6 saddr fd00:9::/64",
    "udp dport 9112",
    "udp dport != 9112",
    "udp dport { 1-100, 9000-9500 }",
    "udp sport 9112",
    "tcp sport 179",
    "meta l4proto udp",
    "meta l4proto != udp",
    "meta l4proto { tcp, vrrp }",
    "ip protocol vrrp",
    "meta nfproto ipv4",
    "ct state new",
    "ct state established,related",
    "ct state != established",
    'iifname "eth0"',
    'iifname != "eth0"',
    'iifname "e*"',
    "fib daddr type local",
    "meta mark 0",
    "icmpv6 type nd-neighbor-advert",
    "th dport 9112",
    "meta pkttype host",
)
VERDICTS = ("accept", "drop", "reject", "return", "jump a", "goto a", "counter", "log", "continue")
RULE = st.builds(
    lambda matches, verdict: f"{' '.join(matches)} {verdict}",
    st.lists(st.sampled_from(MATCHES), max_size=2, unique=True),
    st.sampled_from(VERDICTS),
)
INNER = RULE.filter(lambda rule: not rule.endswith(" a"))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    policy=st.sampled_from(("accept", "drop")),
    rules=st.lists(RULE, max_size=4),
    inner=st.lists(INNER, max_size=3),
)
def test_small_rulesets_are_understood(wire: Cable, policy: str, rules: list[str], inner: list[str]) -> None:
    clean(wire)
    text = (
        f"table inet t {{ chain a {{ {'; '.join(inner)} }}\n"
        f"chain in {{ type filter hook input priority 0; policy {policy}; {'; '.join(rules)} }} }}"
    )
    with wire.node.inside():
        try:
            sh("nft -f -", text)
        except AssertionError:  # two matches that exclude each other are refused
            return
    said = answers(wire)
    for name, answer in said.items():
        may_be_unknown = "th dport" in text and probes()[name].target_port is None
        assert answer.verdict is not Verdict.UNKNOWN or may_be_unknown, (name, answer)
    compare(wire, said)


# What is said of them, and the command that mends it

CONFIGURATION = f"""
[bgp]
peers = ["{PEER6}"]
asn = 65001
peer_asn = 65000
[[node]]
name = "haproxy1"
address = "{NODE}"
[[node]]
name = "haproxy2"
address = "{PEER}"
[[instance]]
name = "web"
addresses = ["192.0.2.10/32"]
[instance.vrrp]
interface = "eth0"
vrid = 51
source = "{NODE}"
peers = ["{PEER}"]
"""


def findings(wire: Cable) -> list[Finding]:
    made = model(CONFIGURATION)
    with wire.node.inside():
        return list(looker.firewall(Context(ThisMachine(), model=made, here=Here(made.nodes[0], "eth0"))))


@pytest.mark.parametrize(
    "ruleset",
    [
        Ruleset("nft", inet("", "drop", output="drop")),
        Ruleset("nft, its own tables", "table ip a { chain b { type filter hook input priority 5; policy drop; }\n}"),
        Ruleset("iptables", iptables=filter_(""), ip6tables=filter_("")),
        Ruleset("iptables by a rule", iptables=filter_("-A INPUT -p udp -j REJECT\n-A OUTPUT -j DROP", "ACCEPT")),
        Ruleset("before tracking", raw("ct state { invalid } drop")),
        Ruleset(
            "iptables before tracking",
            ip6tables="*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j DROP\nCOMMIT\n",
        ),
        Ruleset(
            "one that drops now and then, and one that always does",
            "table inet a { chain b { type filter hook input priority -5; udp dport 1 drop; }\n}\n" + inet(ESTABLISHED),
        ),
        Ruleset("legacy", iptables=filter_(""), ip6tables=filter_("-A OUTPUT -p tcp -j REJECT"), is_legacy=True),
    ],
    ids=lambda one: one.name,
)
def test_the_commands_mend_what_is_stopped(wire: Cable, ruleset: Ruleset) -> None:
    install(wire, ruleset)
    assert [one for one in findings(wire) if one.grade is Grade.PROBLEM]
    for _ in range(4):  # of two rules that stop a packet, the second is seen when the first no longer does
        for one in findings(wire):
            if one.grade in (Grade.PROBLEM, Grade.WARNING):
                with wire.node.inside():
                    sh(one.hint)
    assert {one.grade for one in findings(wire)} == {Grade.WELL}
    for name in ("link in", "link out", "VRRP in", "VRRP out", "BGP out", "BGP answer"):
        assert wire.passes(probes()[name]), name


def test_a_stateful_firewall_lets_the_link_in_as_an_answer_and_no_adverts(wire: Cable) -> None:
    """As `ufw enable` leaves a node."""
    install(wire, Ruleset("stateful", inet(f"{ESTABLISHED}\nmeta l4proto ipv6-icmp accept")))
    grades = {(str(one.code), one.grade) for one in findings(wire) if one.grade is not Grade.WELL}
    assert grades == {("firewall-link", Grade.WARNING), ("firewall-vrrp", Grade.PROBLEM)}
    link = probes()["link in"]
    assert not wire.passes(link)
    assert wire.passes(probes()["link out"])
    assert wire.passes(link, forget=False), "this node's own datagram has made it an answer"


def test_nothing_is_an_answer_where_nothing_leaves(wire: Cable) -> None:
    install(wire, Ruleset("stateful", inet(ESTABLISHED, output="udp dport 9112 drop")))
    link = [one.grade for one in findings(wire) if one.code == "firewall-link"]
    assert link == [Grade.PROBLEM, Grade.PROBLEM]


def test_a_rule_that_nobody_understands_is_shown_and_not_guessed(wire: Cable) -> None:
    install(wire, Ruleset("limit", inet("meta l4proto ipv6-icmp accept\nudp dport 9112 limit rate 20/second accept")))
    (finding,) = [one for one in findings(wire) if one.code == "firewall-link" and one.grade is not Grade.WELL]
    assert finding.grade is Grade.UNSEEN
    assert finding.evidence == ("nft list ruleset: inet filter input: udp dport 9112 limit rate 20/second accept",)


def test_the_rule_that_drops_for_sure_is_named_and_not_one_that_may(wire: Cable) -> None:
    first = "table inet a { chain b { type filter hook input priority -5; meta length > 9999 drop; }\n}\n"
    install(wire, Ruleset("both", first + inet("")))
    assert [one.chain for one in answers(wire)["link in"].because] == ["inet filter input"]


def test_what_drops_below_the_interface_is_not_taken_for_accepting(wire: Cable) -> None:
    """A VLAN's packets go through the ingress of its card, with a tag that nobody here looks for."""
    drop = 'table netdev f { chain in { type filter hook ingress device "eth0" priority 0; policy drop; }\n}'
    files = {"/sys/class/net/br0/lower_eth0.5/mtu": "", "/sys/class/net/eth0.5/lower_eth0/mtu": ""}
    assert looker._below(Context(Recorded(files)), "br0") == {"eth0", "eth0.5"}
    install(wire, Ruleset("below", drop))
    with wire.node.inside():
        tables, _ = load(ThisMachine())
    packet = replace(probes()["link in"], interface="eth0.5")
    assert evaluate(tables, replace(packet, below=frozenset({"eth0"}))).verdict is Verdict.UNKNOWN
    assert evaluate(tables, packet).verdict is Verdict.ACCEPT
    clean(wire)
    install(wire, Ruleset("bridge", "table bridge f { chain in { type filter hook input priority 0; policy drop; }\n}"))
    with wire.node.inside():
        tables, _ = load(ThisMachine())
    assert evaluate(tables, replace(packet, below=frozenset({"eth0"}))).verdict is Verdict.UNKNOWN
    assert evaluate(tables, probes()["link in"]).verdict is Verdict.ACCEPT


class WithoutNft(ThisMachine):
    def run(self, *command: str) -> str:
        if command[0] == "nft":
            raise Missing("nft is not installed")
        return super().run(*command)


def test_without_nft_what_iptables_shows_is_read_and_the_rest_is_named(wire: Cable) -> None:
    install(wire, Ruleset("both", inet(""), filter_(""), filter_(STATEFUL)))
    with wire.node.inside():
        tables, unread = load(WithoutNft())
    assert unread == ["the rules of inet filter are not seen: nft is not installed"]
    assert evaluate(tables, probes()["link in"]).verdict is Verdict.DROP
    clean(wire)
    install(wire, Ruleset("iptables", "", filter_(STATEFUL)))
    with wire.node.inside():
        tables, unread = load(WithoutNft())
    assert not unread
    assert [one.source for one in tables if "legacy" not in one.source] == ["iptables-nft-save"]


def test_settings_of_the_kernel_are_read(wire: Cable) -> None:
    with wire.node.inside():
        assert ThisMachine().text("/proc/sys/net/ipv4/conf/all/rp_filter") in ("0\n", "1\n", "2\n")


def test_what_mends_firewalld_takes_nothing_away_that_was_allowed_until_the_next_reload() -> None:
    because = Because(
        "nft list ruleset", "inet firewalld filter_INPUT", "reject", path=("filter_INPUT", "filter_IN_dmz")
    )
    rule = f"""rule family="ipv4" source address="{PEER}" port port="9112" protocol="udp" accept"""
    hint = mending(probes()["link in"], because, [])
    what = f"--zone=dmz --add-rich-rule='{rule}'"
    assert hint == f"firewall-cmd {what} && firewall-cmd --permanent {what}"
    assert "--reload" not in mending(probes()["link out"], because, [])
