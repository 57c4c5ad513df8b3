"""What Patroni does at etcd, and nothing else: whoever has the key `/service/pgcluster/leader` is the leader.

python -m bench.leaseholder NAME TTL LOOP TIMEOUT ENDPOINT...

The leader writes the key again each LOOP seconds. The other node waits for its end, as Patroni's replicas do, and then
writes its own name. TTL, LOOP and TIMEOUT (of one request) are seconds. It speaks etcd's older API (v2), as Patroni
does with `etcd:` and as vip-manager 1.0.2 must.
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from typing import Any

KEY = "/v2/keys/service/pgcluster/leader"


class Etcd:
    def __init__(self, endpoints: list[str]) -> None:
        self._endpoints = endpoints

    def ask(self, method: str, values: dict[str, object], timeout: float) -> dict[str, Any]:
        """One request; the next one goes to another member if this one fails. Raises OSError."""
        query = urllib.parse.urlencode(values)
        url = self._endpoints[0] + KEY + (f"?{query}" if method == "GET" else "")
        data = None if method == "GET" else query.encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=timeout) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code in (404, 412):  # there is no such key; it is another's
                return dict(json.load(error))
            self._rotate()
            raise
        except (OSError, ValueError) as error:
            # A wait that ends without news says nothing of its member.
            if not ("wait" in values and isinstance(error, TimeoutError)):
                self._rotate()
            raise

    def _rotate(self) -> None:
        self._endpoints = [*self._endpoints[1:], self._endpoints[0]]


def hold(name: str, ttl: int, loop: float, timeout: float, endpoints: list[str]) -> None:
    etcd = Etcd(endpoints)
    while True:
        began = time.monotonic()
        with suppress(OSError, ValueError):
            found = etcd.ask("PUT", {"value": name, "ttl": ttl, "prevValue": name}, timeout)
            if "errorCode" in found:
                found = etcd.ask("PUT", {"value": name, "ttl": ttl, "prevExist": "false"}, timeout)
            if "errorCode" in found:
                index = found["index"] + 1
                with suppress(TimeoutError):  # then it is this node's turn to try
                    etcd.ask("GET", {"wait": "true", "waitIndex": index}, max(timeout, loop))
                continue
        time.sleep(max(0.0, began + loop - time.monotonic()))


if __name__ == "__main__":
    hold(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5:])
