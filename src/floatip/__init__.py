"""floatip keeps a floating IP on a machine that can serve it, on clouds where addresses move by BGP."""

__version__ = "0.1.0"

DEFAULT_CONFIG = "/etc/floatip/floatip.toml"
