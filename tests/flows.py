"""Connections, as the second chance has them."""

from floatip.core.addresses import Address
from floatip.core.second_chance.flow import Flow


def flow(client: Address, client_port: int, ours: Address, our_port: int) -> Flow:
    ports = [port.to_bytes(2, "big") + b"\0\0" for port in (client_port, our_port)]
    return client.packed + ports[0] + ours.packed + ports[1]
