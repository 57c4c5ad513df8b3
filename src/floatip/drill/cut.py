"""Cuts this machine off from the network, by nftables, so that it cannot stay cut off.

The tables belong to the socket that made them (`flags owner`, nft(8), Linux 5.12): when this process ends, however it
ends, the kernel removes them, and no other program can flush them meanwhile. The rules drop only what a set names, and
the elements of the set expire in the kernel: where this process hangs, the network is back after `LASTS` seconds.
To add an element that is there does not renew it, so a transaction empties the set and fills it again.

Outgoing packets are dropped at the egress of each interface where the kernel can (Linux 5.16): what asked for it does
not notice, as with a real failure, and ARP and packet sockets are cut too. Else at the output hook.
"""

import ctypes
import socket
from threading import Event, Thread
from typing import Self

from floatip.commands import Refusal
from floatip.core.refusals import Why

LIBRARY = "libnftables.so.1"
TABLE = "floatip_drill"
LASTS = 8
"""Seconds after which the kernel lets everything through again, unless it is renewed."""
RENEWED = 2.0
"""Seconds between two renewals."""
SET = f"set cut {{ typeof meta protocol; flags timeout; timeout {LASTS}s; }}"
INPUT = f"""
table inet {TABLE} {{
  flags owner
  {SET}
  chain in {{ type filter hook prerouting priority raw; iifname != "lo" meta protocol @cut drop; }}
  OUTPUT
}}
table arp {TABLE} {{
  flags owner
  {SET}
  chain in {{ type filter hook input priority 0; meta protocol @cut drop; }}
  OUTPUT
}}
"""
OUTPUT = 'chain out { type filter hook output priority PRIORITY; oifname != "lo" meta protocol @cut drop; }'
ELEMENTS = {"inet": "ip, ip6", "arp": "arp", "netdev": "ip, ip6, arp"}


class NftError(Refusal):
    code = Why.NO_NFTABLES
    status = 2


class Nftables:
    """One connection to the kernel, by nft's own library. Raises NftError."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError:
            what = f"--fault cut needs nftables, and {LIBRARY} is not installed"
            raise NftError(what, "apt install nftables; or rehearse another fault: --fault stop") from None
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_ctx_free.restype = None
        self._library = library
        self._context = library.nft_ctx_new(0)
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def run(self, commands: str) -> None:
        """One transaction."""
        if self._library.nft_run_cmd_from_buffer(self._context, commands.encode()):
            said = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
            what = f"nftables refuses: {said.splitlines()[0] if said else 'no reason given'}"
            raise NftError(what, "see what the kernel can: uname -r; floatip drill --fault cut needs Linux 5.12")

    def close(self) -> None:
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None


class Cut:
    """In force from `begin` to `end`, or to the end of this process."""

    def __init__(self) -> None:
        self._nftables = Nftables()
        self._over = Event()
        self._renewing = Thread(target=self._renew, daemon=True)
        self._families = ["inet", "arp"]
        self.trouble = ""
        """Why it could not be renewed."""

    def prepare(self) -> None:
        """The tables, which cut nothing yet."""
        interfaces = [name for _, name in socket.if_nameindex() if name != "lo"]
        try:
            self._nftables.run(_tables("") + _egress(interfaces))
            self._families.append("netdev")
        except NftError:
            self._nftables.run(_tables(OUTPUT))

    def begin(self) -> None:
        self._fill()
        self._renewing.start()

    def end(self) -> None:
        """Removes the tables."""
        self._over.set()
        if self._renewing.is_alive():
            self._renewing.join()
        self._nftables.close()

    def _renew(self) -> None:
        while not self._over.wait(RENEWED):
            try:
                self._fill()
            except NftError as error:
                self.trouble = error.what

    def _fill(self) -> None:
        self._nftables.run(
            "".join(
                f"flush set {family} {TABLE} cut\nadd element {family} {TABLE} cut {{ {ELEMENTS[family]} }}\n"
                for family in self._families
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


def _tables(output: str) -> str:
    inet, arp = INPUT.split("table arp", 1)
    text = inet.replace("OUTPUT", output.replace("PRIORITY", "raw"))
    return f"{text}table arp{arp.replace('OUTPUT', output.replace('PRIORITY', '0'))}"


def _egress(interfaces: list[str]) -> str:
    devices = ", ".join(f'"{name}"' for name in interfaces)
    hook = f"type filter hook egress devices = {{ {devices} }} priority 0"
    chain = f"chain out {{ {hook}; meta protocol @cut drop; }}"
    return f"table netdev {TABLE} {{\n  flags owner\n  {SET}\n  {chain}\n}}\n"


def remains() -> bool:
    """Whether the kernel still has such a table."""
    nftables = Nftables()
    try:
        nftables.run(f"list table inet {TABLE}")
    except NftError:
        return False
    finally:
        nftables.close()
    return True
