"""The one error that bytes from the network may raise, and the only one that parsers raise."""


class Malformed(Exception):
    """The peer sent something that is not a message of its protocol.

    For BGP, `code`, `subcode` and `data` are the NOTIFICATION to answer with (RFC 4271 section 6);
    VRRP packets are only counted, so there they stay 0 and empty. For the link, `code` is one of `link/wire.py`.
    """

    def __init__(self, what: str, code: int = 0, subcode: int = 0, data: bytes = b"") -> None:
        super().__init__(what)
        self.what = what
        self.code = code
        self.subcode = subcode
        self.data = data
