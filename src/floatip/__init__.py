"""floatip keeps a floating IP on a machine that can serve it, on clouds where addresses move by BGP."""

import os

__version__ = "0.1.0"

DEFAULT_CONFIG = os.environ.get("CONFIGURATION_DIRECTORY", "/etc/floatip").split(":")[0] + "/floatip.toml"
"""systemd sets this variable for the daemon; the lab sets it, so that commands find the file of the node."""
