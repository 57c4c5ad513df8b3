"""What answers browsers and Prometheus, as a process beside the daemon. It asks the daemon as `floatip status` does.

`__main__` runs it, `server` has the connections and their limits, `access` says who may, `routes` which path answers
what, `source` what is known of the daemon, `events` the streams.
"""
