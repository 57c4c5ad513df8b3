"""Rulesets as administrators have them, and as only a test has them: what floatip's evaluator is compared with the
kernel about. `unknown`: the probes of which it must say that it does not know.
"""

from dataclasses import dataclass, field

from tests.doctor.two_namespaces import NODE, PEER, PEER6, STRANGER


@dataclass(frozen=True)
class Ruleset:
    name: str
    nft: str = ""
    iptables: str = ""
    ip6tables: str = ""
    is_legacy: bool = False
    unknown: frozenset[str] = field(default=frozenset())


LINK_PROBES = {"link in", "link of a stranger", "IPv6 link in"}


def inet(rules: str, policy: str = "drop", more: str = "", output: str = "") -> str:
    out = f"chain output {{ type filter hook output priority filter; policy accept; {output}; }}" if output else ""
    return (
        f"table inet filter {{ {more}\n chain input {{ type filter hook input priority filter; policy {policy};\n"
        f"{rules}\n}}\n{out} }}"
    )


def raw(rules: str, policy: str = "accept", hook: str = "prerouting", priority: int = -300) -> str:
    return (
        f"table inet raw {{ chain first {{ type filter hook {hook} priority {priority}; policy {policy};\n"
        f"{rules}\n}}\n}}\n"
    )


ALL_IN = {"link in", "link of a stranger", "VRRP in", "BGP answer", "IPv6 link in", "neighbour discovery"}
ESTABLISHED = "ct state established,related accept"
NFT = [
    Ruleset("no rules"),
    Ruleset("accept all", inet("", "accept")),
    Ruleset("drop all", inet("")),
    Ruleset("stateful", inet(ESTABLISHED)),
    Ruleset("stateful by a map", inet("ct state vmap { established : accept, related : accept, invalid : drop }")),
    Ruleset("stateful by a set", inet("ct state { established, related } accept")),
    Ruleset("only new ones are dropped", inet("ct state new drop", "accept")),
    Ruleset("not new", inet("ct state != new accept")),
    Ruleset("untracked", inet("ct state untracked accept")),
    Ruleset("as the docs say", inet(f"{ESTABLISHED}\nip saddr {PEER} udp dport {{ 9112, 8473 }} accept")),
    Ruleset("another port", inet("udp dport 9113 accept")),
    Ruleset("a range of ports", inet("udp dport 9000-9200 accept")),
    Ruleset("a set of ports", inet("udp dport { 22, 53, 9100-9120 } accept")),
    Ruleset("not this port", inet("udp dport != 9112 accept")),
    Ruleset("ports compared", inet("udp sport >= 1024 udp dport < 9113 accept")),
    Ruleset("a network", inet("ip saddr 10.9.0.0/30 accept")),
    Ruleset("a mask", inet("ip saddr & 255.255.255.254 == 10.9.0.2 accept")),
    Ruleset("not a stranger", inet(f"ip saddr != {STRANGER} meta l4proto {{ udp, vrrp }} accept")),
    Ruleset(
        "a named set", inet("ip saddr @peers accept", more=f"set peers {{ type ipv4_addr; elements = {{ {PEER} }}; }}")
    ),
    Ruleset(
        "a named set with intervals",
        inet(
            "ip saddr @peers udp dport 9112 accept",
            more="set peers { type ipv4_addr; flags interval; elements = { 10.9.0.2-10.9.0.9, 10.8.0.0/16 }; }",
        ),
    ),
    Ruleset(
        "not in a named set",
        inet("ip saddr != @bad accept", more=f"set bad {{ type ipv4_addr; elements = {{ {STRANGER} }}; }}"),
    ),
    Ruleset(
        "a set that packets fill",
        inet("ip saddr @seen accept", more="set seen { type ipv4_addr; flags dynamic,timeout; timeout 1m; }"),
        unknown=frozenset({"link in", "link of a stranger", "VRRP in"}),
    ),
    Ruleset("a pair of values", inet(f"ip saddr . udp dport {{ {PEER} . 9112 }} accept")),
    Ruleset(
        "a map to chains",
        inet(
            "udp dport vmap @ways",
            more=f"map ways {{ type inet_service : verdict; elements = {{ 22 : drop, 9112 : jump peers }}; }}\n"
            f"chain peers {{ ip saddr {PEER} accept; }}",
        ),
    ),
    Ruleset(
        "jump and return",
        inet("jump a\naccept", more=f"chain a {{ ip saddr {PEER} return; ip saddr {STRANGER} drop; }}"),
    ),
    Ruleset("goto does not come back", inet("goto a\naccept", more=f"chain a {{ ip saddr {PEER} accept; }}")),
    Ruleset(
        "deep jumps",
        inet("jump a", more="chain c { udp dport 9112 accept; }\nchain b { jump c; }\nchain a { jump b; }"),
    ),
    Ruleset("a protocol by its number", inet("ip protocol 112 accept")),
    Ruleset("a protocol by its name", inet("meta l4proto vrrp accept")),
    Ruleset("not UDP", inet("meta l4proto != udp accept")),
    Ruleset("an interface", inet('iifname "eth0" udp dport 9112 accept')),
    Ruleset("an interface by a wildcard", inet('iifname "eth*" accept')),
    Ruleset("an interface of a set", inet('iifname { "lo", "wg*" } accept')),
    Ruleset("another interface", inet('iif "lo" accept')),
    Ruleset("not this interface", inet('iifname != "eth0" accept')),
    Ruleset("the way out on the way in", inet('oifname != "eth9" accept')),
    Ruleset(
        "a user",
        inet("", "accept", output="meta skuid 12345 drop"),
        unknown=frozenset({"link out", "VRRP out", "BGP out"}),
    ),
    Ruleset(
        "a limit",
        inet("limit rate 3/second accept\ndrop"),
        unknown=frozenset(
            {"link in", "link of a stranger", "VRRP in", "IPv6 link in", "neighbour discovery", "BGP answer"}
        ),
    ),
    Ruleset("a limit of the log", inet('limit rate 3/second log prefix "no "\nudp dport 9112 accept')),
    Ruleset("a limit that changes nothing", inet("limit rate 1/day accept\naccept")),
    Ruleset("reject", inet(f"ip saddr {PEER} udp dport 9112 reject\naccept")),
    Ruleset("reject with a reset", inet("meta l4proto tcp reject with tcp reset\naccept")),
    Ruleset(
        "neighbour discovery", inet("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept")
    ),
    Ruleset("all of ICMPv6", inet("meta l4proto ipv6-icmp accept")),
    Ruleset("nothing of IPv6", inet("meta nfproto ipv6 drop", "accept")),
    Ruleset("only IPv6", inet("meta nfproto ipv6 accept")),
    Ruleset("the way back", inet("meta nfproto ipv6 fib saddr . iif oif missing drop", "accept")),
    Ruleset("local addresses", inet("fib daddr type local accept")),
    Ruleset("only what is sent to all", inet("meta pkttype { broadcast, multicast } accept")),
    Ruleset("a mark", inet("meta mark 0x1 accept")),
    Ruleset("no mark", inet("meta mark 0 accept")),
    Ruleset("a masked mark", inet("meta mark & 0xff == 0x10 accept\nudp dport 9112 accept")),
    Ruleset(
        "a mark that is set",
        inet("meta mark set 0x1\nmeta mark 0x1 accept"),
        unknown=frozenset(
            {"link in", "link of a stranger", "VRRP in", "IPv6 link in", "neighbour discovery", "BGP answer"}
        ),
    ),
    Ruleset("flags of TCP", inet("tcp flags & (syn|ack) == syn drop", "accept")),
    Ruleset("an answer by its flags", inet("tcp flags & (syn|ack) == (syn|ack) accept")),
    Ruleset("any flag", inet("tcp flags { syn, ack } accept\nmeta l4proto != tcp accept"), unknown=frozenset()),
    Ruleset(
        "two tables",
        inet("accept")
        + "\ntable ip second { chain in { type filter hook input priority 10; policy accept; udp dport 9112 drop; } }",
    ),
    Ruleset(
        "before the filter",
        "table inet raw { chain pre { type filter hook prerouting priority -300; udp dport 9112 drop; } }",
    ),
    Ruleset(
        "before everything",
        'table netdev first { chain in { type filter hook ingress device "eth0" priority 0; '
        f"ip saddr {STRANGER} drop; }} }}",
    ),
    Ruleset(
        "before everything, of another interface",
        "table netdev f { chain in { type filter hook ingress device lo priority 0; policy drop; }\n}\n"
        "table inet g { chain in { type filter hook ingress devices = { lo } priority 0; policy drop; }\n}",
    ),
    Ruleset(
        "a table that sleeps",
        "table inet asleep { flags dormant; chain in { type filter hook input priority 0; policy drop; } }",
    ),
    Ruleset(
        "not tracked",
        "table inet raw { chain pre { type filter hook prerouting priority -300; notrack; } }\n" + inet(ESTABLISHED),
        unknown=frozenset(
            {"BGP answer", "link in", "link of a stranger", "VRRP in", "IPv6 link in", "neighbour discovery"}
        ),
    ),
    Ruleset(
        "nothing leaves",
        inet("", "accept", output="udp dport 9112 drop\nip protocol 112 drop\ntcp dport 179 reject with tcp reset"),
    ),
    Ruleset(
        "little leaves",
        "table inet f { chain out { type filter hook output priority 0; policy drop; udp dport 9112 accept; "
        f"tcp dport 179 ip6 daddr {PEER6} accept; }} }}",
    ),
    Ruleset(
        "after routing",
        'table ip p { chain post { type filter hook postrouting priority 0; oifname "eth0" meta l4proto vrrp drop; } }',
    ),
    Ruleset(
        "translated",
        "table ip nat { chain pre { type nat hook prerouting priority -100; udp dport 9112 dnat to 10.9.0.77; } }",
        unknown=frozenset({"link in", "link of a stranger"}),
    ),
    Ruleset("a comment and a counter", inet('udp dport 9112 counter accept comment "the link"')),
    Ruleset("an address of IPv6", inet(f"ip6 saddr {PEER6} udp dport 9112 accept")),
    Ruleset("a network of IPv6", inet("ip6 saddr fd00:9::/64 accept")),
    Ruleset("any port of any transport", inet("meta l4proto { tcp, udp } th dport { 9112, 179 } accept")),
    # What ends a rule without a word: a limit in an element, a map or a field that has nothing for this packet.
    Ruleset(
        "a limit in the element of a set",
        inet(
            "update @m { ip saddr limit rate over 100/second } drop",
            "accept",
            "set m { type ipv4_addr; flags dynamic; size 99; }",
        ),
        unknown=frozenset({"link in", "link of a stranger", "VRRP in"}),
    ),
    Ruleset(
        "a set of what the packet does not have",
        inet("update @m { ip saddr } accept", more="set m { type ipv4_addr; flags dynamic; size 99; }"),
    ),
    Ruleset("a mark by a map", inet("meta mark set ip saddr map { 9.9.9.9 : 1 } accept"), unknown=frozenset(ALL_IN)),
    Ruleset(
        "a counter by a map",
        inet('counter name ip saddr map { 9.9.9.9 : "c" } drop', "accept", "counter c { }"),
        unknown=frozenset(ALL_IN),
    ),
    Ruleset("a field of the other family changed", inet("ip dscp set cs1 accept")),
    Ruleset("a field of the other family changed, dropped", inet("ip6 dscp set cs1 drop", "accept")),
    Ruleset(
        "a port changed under one name and read under another",
        raw("udp dport set 9113") + inet("th dport 9112 accept"),
        unknown=frozenset(ALL_IN - {"BGP answer"}),
    ),
    # Before connection tracking each packet is invalid.
    Ruleset("before tracking: invalid", raw("ct state invalid drop")),
    Ruleset("before tracking: all but invalid", raw("ct state established,related,new accept", "drop")),
    Ruleset("before tracking: new", raw("ct state new drop")),
    Ruleset("before tracking: a status", raw("ct status != dnat drop")),
    Ruleset("before tracking: on its way out", raw("ct state invalid drop", hook="output")),
    Ruleset("after tracking: new", raw("ct state new drop", priority=-199)),
    Ruleset("another zone", raw("ct zone set 7") + inet(ESTABLISHED), unknown=frozenset(ALL_IN)),
    Ruleset(
        "nat drops, and nothing tracks",
        "table ip nat { chain in { type nat hook input priority 100; udp dport 9112 drop; } }",
        unknown=frozenset({"link in", "link of a stranger"}),
    ),
    Ruleset(
        "as firewalld has it",
        """
table inet firewalld {
  chain mangle_PREROUTING { type filter hook prerouting priority -140; policy accept;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
  }
  chain filter_INPUT { type filter hook input priority 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_INPUT_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_INPUT_ZONES { iifname "eth0" goto filter_IN_public; goto filter_IN_public; }
  chain filter_IN_public {
    jump filter_IN_public_deny; jump filter_IN_public_allow;
    meta l4proto { icmp, ipv6-icmp } accept
  }
  chain filter_IN_public_deny { }
  chain filter_IN_public_allow { tcp dport 22 accept; ip6 daddr fe80::/64 udp dport 546 accept;
    ip saddr """
        + PEER
        + """ udp dport 9112 accept; }
}""",
        unknown=frozenset(),
    ),
]


def filter_(rules: str, policy: str = "DROP", more: str = "") -> str:
    return f"*filter\n:INPUT {policy} [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n{more}{rules}\nCOMMIT\n"


STATEFUL = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
UFW = """:ufw-before-input - [0:0]
:ufw-user-input - [0:0]
:ufw-not-local - [0:0]
:ufw-logging-deny - [0:0]
:ufw-skip-to-policy-input - [0:0]
-A INPUT -j ufw-before-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -j ufw-user-input
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny
-A ufw-not-local -j DROP
-A ufw-logging-deny -m limit --limit 3/min -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-skip-to-policy-input -j DROP
"""
UFW6 = """:ufw6-before-input - [0:0]
:ufw6-user-input - [0:0]
-A INPUT -j ufw6-before-input
-A ufw6-before-input -i lo -j ACCEPT
-A ufw6-before-input -m rt --rt-type 0 -j DROP
-A ufw6-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw6-before-input -p ipv6-icmp -m icmp6 --icmpv6-type echo-reply -j ACCEPT
-A ufw6-before-input -p ipv6-icmp -m icmp6 --icmpv6-type 136 -m hl --hl-eq 255 -j ACCEPT
-A ufw6-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw6-before-input -s fe80::/10 -p udp -m udp --sport 547 -d fe80::/10 --dport 546 -j ACCEPT
-A ufw6-before-input -j ufw6-user-input
"""
IPTABLES = [
    Ruleset("ufw for IPv6", ip6tables=filter_(UFW6)),
    Ruleset("iptables: a hop limit", ip6tables=filter_("-A INPUT -p ipv6-icmp -m hl ! --hl-eq 255 -j DROP", "ACCEPT")),
    *(
        Ruleset(f"iptables: the header {name}", ip6tables=filter_(f"-A INPUT -m {name} -j DROP", "ACCEPT"))
        for name in ("rt", "frag", "hbh", "dst", "ah")
    ),
    Ruleset(
        "iptables: invalid before tracking",
        iptables="*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n",
    ),
    Ruleset("iptables: accept all", iptables=filter_("", "ACCEPT")),
    Ruleset("iptables: drop all", iptables=filter_(""), ip6tables=filter_("")),
    Ruleset("iptables: stateful", iptables=filter_(STATEFUL), ip6tables=filter_(STATEFUL)),
    Ruleset(
        "iptables: as the docs say",
        iptables=filter_(f"{STATEFUL}-A INPUT -p udp -s {PEER} -m multiport --dports 9112,8473 -j ACCEPT"),
    ),
    Ruleset("iptables: many ports", iptables=filter_("-A INPUT -p udp -m multiport --dports 53,9100:9120 -j ACCEPT")),
    Ruleset(
        "iptables: a range of addresses", iptables=filter_(f"-A INPUT -m iprange --src-range {PEER}-{PEER} -j ACCEPT")
    ),
    Ruleset("iptables: not a stranger", iptables=filter_(f"-A INPUT ! -s {STRANGER} -p udp -j ACCEPT")),
    Ruleset("iptables: a protocol", iptables=filter_("-A INPUT -p 112 -j ACCEPT")),
    Ruleset("iptables: an interface", iptables=filter_("-A INPUT -i eth+ -p udp -j ACCEPT")),
    Ruleset("iptables: not this interface", iptables=filter_("-A INPUT ! -i eth0 -j ACCEPT")),
    Ruleset(
        "iptables: reject", iptables=filter_("-A INPUT -p udp -j REJECT --reject-with icmp-port-unreachable", "ACCEPT")
    ),
    Ruleset(
        "iptables: a chain",
        iptables=filter_(
            f"-A INPUT -j PEERS\n-A PEERS -s {PEER} -j ACCEPT\n-A PEERS -j RETURN", more=":PEERS - [0:0]\n"
        ),
    ),
    Ruleset(
        "iptables: goto",
        iptables=filter_(
            f"-A INPUT -g PEERS\n-A INPUT -j ACCEPT\n-A PEERS -s {PEER} -j ACCEPT", more=":PEERS - [0:0]\n"
        ),
    ),
    Ruleset(
        "iptables: raw",
        iptables="*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
        "-A PREROUTING -p udp --dport 9112 -j DROP\nCOMMIT\n",
    ),
    Ruleset(
        "iptables: a mark",
        iptables="*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -j MARK --set-mark 5\nCOMMIT\n"
        + filter_("-A INPUT -m mark --mark 5 -j ACCEPT"),
        unknown=frozenset({"link in", "link of a stranger"}),
    ),
    Ruleset(
        "iptables: a limit",
        iptables=filter_("-A INPUT -p udp -m limit --limit 5/sec -j ACCEPT"),
        unknown=frozenset({"link in", "link of a stranger"}),
    ),
    Ruleset(
        "iptables: recent",
        iptables=filter_("-A INPUT -p udp -m recent --name x --rcheck -j DROP", "ACCEPT"),
        unknown=frozenset({"link in", "link of a stranger"}),
    ),
    Ruleset(
        "iptables: only the start of a connection",
        ip6tables=filter_("-A INPUT -p tcp --syn -j DROP\n-A INPUT -p tcp -j ACCEPT"),
    ),
    Ruleset(
        "iptables: neighbour discovery", ip6tables=filter_("-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j ACCEPT")
    ),
    Ruleset(
        "iptables: nothing leaves",
        iptables=filter_("-A OUTPUT -p udp --dport 9112 -j DROP", "ACCEPT"),
        ip6tables=filter_("-A OUTPUT -p tcp --dport 179 -j REJECT", "ACCEPT"),
    ),
    Ruleset(
        "ufw: default deny",
        iptables=filter_(UFW),
        ip6tables=filter_("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
    ),
    Ruleset(
        "ufw: the link allowed",
        iptables=filter_(f"{UFW}-A ufw-user-input -s {PEER}/32 -p udp -m udp --dport 9112 -j ACCEPT"),
    ),
    Ruleset("iptables and a rule of nft", nft="", iptables=filter_(STATEFUL)),
    Ruleset(
        "iptables: a comment",
        iptables=filter_(f'-A INPUT -s {PEER} -d {NODE} -p udp -m comment --comment "the link -j DROP" -j ACCEPT'),
    ),
]
LEGACY = [
    Ruleset(
        one.name.replace("iptables:", "legacy:").replace("ufw:", "ufw with legacy:"),
        one.nft,
        one.iptables,
        one.ip6tables,
        True,
        one.unknown,
    )
    for one in IPTABLES
    if one.iptables or one.ip6tables
]
ALL = [*NFT, *IPTABLES, *LEGACY]
