"""Holds two exclusive addresses, renews them each half second, and prints until when each time."""

import asyncio
import sys
import time
from ipaddress import ip_interface
from pathlib import Path

from floatip.core.addresses import Placed
from floatip.core.events import Fence, Hold
from floatip.host.disk import Disk, Memory
from floatip.host.network.kernel import Kernel, Wanted

ADDRESSES = frozenset(Placed("lo", ip_interface(one)) for one in ("192.0.2.10/32", "2001:db8::10/128"))
LEFT = 3.0


async def main() -> None:
    disk = Disk(lambda event: None)
    kernel = Kernel(lambda event: None, Memory(disk, Path(sys.argv[1])))
    await kernel.start()
    kernel.configure(Wanted(named=ADDRESSES, exclusive=ADDRESSES))
    running = asyncio.create_task(kernel.run())
    while not running.done():
        until = time.monotonic() + LEFT
        kernel.fence(Fence(ADDRESSES, until))
        kernel.hold(Hold(ADDRESSES))
        print(until, flush=True)
        await asyncio.sleep(0.5)


asyncio.run(main())
