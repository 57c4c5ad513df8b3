"""The helper process of the daemon that runs the checks by HTTP, DNS, ICMP, HAProxy's stats socket and D-Bus.

Their libraries cost memory, and TLS and parsing would hold up the loop of the daemon. The process is started only where
such a check is configured; `host/checks/helper.py` is the daemon's side. It asks whom the configuration names, and
hears what they answer, so nothing here has a right that it does not need.

stdin is a socket to the daemon, of whole packets of JSON. What the daemon says:

* `["set", key, kind, fields]`: a check, as in `floatip.model`; the key stands for it from now on.
* `["run", key, run, timeout]`: look once. A run that is still out for the check is dropped.
* `["drop", key]`: the check is gone.
* `["ping"]`: answered with `["pong"]`.

What is said to it is `[key, run, passed, reason]`; run 0 is a check that answers unasked.
"""
