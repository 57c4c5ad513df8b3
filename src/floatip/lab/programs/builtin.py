"""The lab's own route server and fabric, which need no other program."""

import sys
from collections.abc import Sequence

from floatip.lab.network import FABRIC, ROUTER, Network, router_id
from floatip.lab.programs.program import RoutingProgram
from floatip.lab.route_server_process import FABRIC_HOLD_TIME


class _BuiltIn(RoutingProgram):
    def __init__(self, network: Network, host: str, *, hold_time: int = 9) -> None:
        super().__init__(network, host)
        self._hold_time = hold_time

    def command(self) -> Sequence[str]:
        arguments = [self.name, router_id(self.host), str(self._hold_time), str(FABRIC)]
        return [sys.executable, "-m", "floatip.lab.route_server_process", *arguments]


class BuiltInRouteServer(_BuiltIn):
    name = "route-server"


class BuiltInFabric(_BuiltIn):
    name = "fabric"

    def __init__(self, network: Network) -> None:
        super().__init__(network, ROUTER, hold_time=FABRIC_HOLD_TIME)
