"""Tells the layer-2 neighbours who answers for an address now: gratuitous ARP, unsolicited neighbour advertisement."""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address

ETH_P_ARP = 0x0806
ALL_NODES = "ff02::1"


def tell_neighbours(interface: str, mac: bytes, address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv4Address):
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            raw.sendto(gratuitous_arp(mac, address), (interface, ETH_P_ARP))
        return
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        # RFC 4861 section 7.1.2: dropped with any other hop limit. The kernel writes the checksum.
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        raw.bind((str(address), 0))
        raw.sendto(neighbour_advertisement(mac, address), (ALL_NODES, 0, 0, socket.if_nametoindex(interface)))


def gratuitous_arp(mac: bytes, address: IPv4Address) -> bytes:
    """An announcement (RFC 5227 section 1.1): a request in which sender and target are the same."""
    ethernet = b"\xff" * 6 + mac + struct.pack("!H", ETH_P_ARP)
    return ethernet + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address.packed + bytes(6) + address.packed


def neighbour_advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """RFC 4861 section 4.4, unsolicited, with the override flag; option 2 is the target's link-layer address."""
    return struct.pack("!BBHI", 136, 0, 0, 0x20000000) + address.packed + struct.pack("!BB", 2, 1) + mac
