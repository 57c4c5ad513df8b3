"""The NOTIFICATION message (RFC 4271 section 4.5), and what it means in words."""

from dataclasses import dataclass

_ERRORS: dict[int, tuple[str, dict[int, str]]] = {
    1: (
        "Message Header Error",
        {1: "Connection Not Synchronized", 2: "Bad Message Length", 3: "Bad Message Type"},
    ),
    2: (
        "OPEN Message Error",
        {
            1: "Unsupported Version Number",
            2: "Bad Peer AS",
            3: "Bad BGP Identifier",
            4: "Unsupported Optional Parameter",
            6: "Unacceptable Hold Time",
            7: "Unsupported Capability",  # RFC 5492
            11: "Role Mismatch",  # RFC 9234
        },
    ),
    3: (
        "UPDATE Message Error",
        {
            1: "Malformed Attribute List",
            2: "Unrecognized Well-known Attribute",
            3: "Missing Well-known Attribute",
            4: "Attribute Flags Error",
            5: "Attribute Length Error",
            6: "Invalid ORIGIN Attribute",
            8: "Invalid NEXT_HOP Attribute",
            9: "Optional Attribute Error",
            10: "Invalid Network Field",
            11: "Malformed AS_PATH",
        },
    ),
    4: ("Hold Timer Expired", {}),
    5: (
        "Finite State Machine Error",
        {  # RFC 6608
            1: "Unexpected Message in OpenSent",
            2: "Unexpected Message in OpenConfirm",
            3: "Unexpected Message in Established",
        },
    ),
    6: (
        "Cease",
        {  # RFC 4486, 8538, 9384
            1: "Maximum Number of Prefixes Reached",
            2: "Administrative Shutdown",
            3: "Peer De-configured",
            4: "Administrative Reset",
            5: "Connection Rejected",
            6: "Other Configuration Change",
            7: "Connection Collision Resolution",
            8: "Out of Resources",
            9: "Hard Reset",
            10: "BFD Down",
        },
    ),
    7: ("ROUTE-REFRESH Message Error", {1: "Invalid Message Length"}),  # RFC 7313
    8: ("Send Hold Timer Expired", {}),  # RFC 9687
}


@dataclass(frozen=True, slots=True)
class Notification:
    code: int
    subcode: int
    data: bytes = b""


def explain(notification: Notification) -> str:
    """What a NOTIFICATION means, in words, with the peer's own text (RFC 9003) made safe to print."""
    code, subcode, data = notification.code, notification.subcode, notification.data
    name, subcodes = _ERRORS.get(code, (f"error code {code}", {}))
    if subcode:
        name += ": " + subcodes.get(subcode, f"subcode {subcode}")
    if code == 6 and subcode in (2, 4) and (text := counted_text(data)):
        name += f' ("{text}")'
    if (code, subcode) == (6, 9) and len(data) > 1 and data[:2] != b"\6\x09":  # RFC 8538 3: it wraps what is meant
        name += f" ({explain(Notification(data[0], data[1], data[2:]))})"
    if (code, subcode) == (2, 7) and data:
        name += f" (it wants capability {data[0]})"
    return name


def counted_text(data: bytes) -> str:
    """A text after its length, which may lie, made safe to print."""
    text = data[1 : 1 + int.from_bytes(data[:1])].decode(errors="replace")
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
