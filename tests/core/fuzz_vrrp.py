"""What keepalived and floatip send, changed at random: nothing but adverts and `Malformed` may come of it.

    python -m tests.core.fuzz_vrrp --cases 1000000

Half of the cases get a right checksum, so that they reach what stands behind it; signed ones reach the checks of their
signature too.
"""

import argparse
import time
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from random import Random

from floatip.core.addresses import Address
from floatip.core.malformed import Malformed
from floatip.core.settings import Hmac, Vrrp
from floatip.core.vrrp.trailer import Signer
from floatip.core.vrrp.wire import GROUP, GROUP_IPV6, PROTOCOL, Advert, append, checksum, pack, parse

CAPTURES = Path(__file__).parents[1] / "captures" / "keepalived.hex"
IPV4, IPV6 = IPv4Address("192.0.2.1"), IPv6Address("fe80::10")
CLOCK = 1.8e9
REPORTED_EVERY = 50_000

Case = tuple[bytes, Address, Address]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    parsed = play(arguments.cases, arguments.seed, is_told=True)
    seconds = time.monotonic() - began
    print(f"{arguments.cases} cases in {seconds:.0f} s: {parsed} are adverts, the others Malformed, nothing else")


def play(cases: int, seed: int, *, is_told: bool = False) -> int:
    """How many of them are adverts."""
    random, seeds, parsed = Random(seed), _seeds(), 0
    signers = {address.version: _signer(address) for address in (IPV4, IPV6)}
    for number in range(1, cases + 1):
        data, source, destination = _changed(random, *random.choice(seeds))
        try:
            advert = parse(data, source, destination)
        except Malformed:
            pass
        else:
            parsed += 1
            signers[source.version].objection(advert.trailer, source, CLOCK)
        if is_told and number % REPORTED_EVERY == 0:
            print(f"{number} of {cases}: {parsed} are adverts", flush=True)
    return parsed


def _signer(source: Address) -> Signer:
    return Signer(Vrrp("eth0", 51, 100, source, (), 3, hmac=Hmac(((1, bytes(32)),), 1)))


def _seeds() -> list[Case]:
    rows = [line.split() for line in CAPTURES.read_text().splitlines() if line[0] != "#"]
    found: list[Case] = [(bytes.fromhex(row[3]), ip_address(row[1]), ip_address(row[2])) for row in rows]
    for source, group in ((IPV4, GROUP), (IPV6, GROUP_IPV6)):
        data = pack(Advert(3, 51, 100, 1.0, (source,)), source, group)
        found.append((append(data, _signer(source).trailer(data, CLOCK), source, group), source, group))
        found.append((pack(Advert(2, 51, 100, 1.0, ()), source, group), source, group))
    return found


def _changed(random: Random, data: bytes, source: Address, destination: Address) -> Case:
    changed = bytearray(data)
    for _ in range(random.randint(0, 3)):
        at = random.randrange(len(changed) + 1)
        changed[at : at + random.randint(0, 4)] = random.randbytes(random.randint(0, 4))
    if random.random() < 0.02:
        destination = random.choice((IPV4, IPV6))
    if random.random() < 0.5 and len(changed) >= 8:
        changed[6:8] = bytes(2)
        if len(changed) % 2 == 0:
            pseudo = source.packed + destination.packed + len(changed).to_bytes(4) + PROTOCOL.to_bytes(4)
            changed[6:8] = checksum((pseudo if source.version == 6 else b"") + bytes(changed)).to_bytes(2)
    return bytes(changed), source, destination


if __name__ == "__main__":
    main()
