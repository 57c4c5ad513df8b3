"""Which kind of check needs which library, and its package of Debian. Nothing here loads one."""

PACKAGES = {
    "cryptography": "python3-cryptography",
    "dbus_fast": "python3-dbus-fast",
    "dns": "python3-dnspython",
    "icmplib": "python3-icmplib",
}
"""By the name of the module."""
NEEDS = {"dns": "dns", "icmp": "icmplib", "systemd": "dbus_fast"}
"""By the key of floatip.toml, and the module here. `certificate_days` needs cryptography as well."""
EXTRA = "floatip[checks]"
"""What pip calls all of them."""
