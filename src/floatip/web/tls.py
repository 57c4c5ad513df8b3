"""The context of TLS. Only a process that serves TLS imports this: ssl is large."""

import ssl

from floatip.web.settings import Settings


def context(settings: Settings) -> ssl.SSLContext:
    """Raises OSError (an ssl.SSLError is one) or ValueError."""
    assert settings.tls_certificate
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    # A key with a passphrase is refused: nobody is there to type it.
    made.load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
    if settings.client_ca:
        made.load_verify_locations(settings.client_ca)
        made.verify_mode = ssl.CERT_REQUIRED
    return made
