"""Session tickets that every worker can open: all seal them with the same keys (RFC 5077, RFC 8446 §4.6.1).

Python's `ssl` can't set a context's ticket keys, OpenSSL can (SSL_CTX_set_tlsext_ticket_keys). The C structure of an
`SSLContext` begins with the pointer that OpenSSL wants, in every CPython listed here; in others nothing is touched, and
each worker opens its own tickets only.
"""

from __future__ import annotations

import ctypes
import hashlib
import ssl
import sys

KNOWN_VERSIONS = ((3, 11), (3, 12), (3, 13))
"""Versions of CPython whose structure was looked at and tried."""
_SIZE = 80
"""Bytes that OpenSSL wants: name, HMAC key and cipher key."""
_SET_KEYS = 59  # SSL_CTRL_SET_TLSEXT_TICKET_KEYS in OpenSSL's ssl.h


def share_tickets(context: ssl.SSLContext, secret: bytes, *about: object) -> bool:
    """Seal tickets with keys made of `secret` and `about`, whatever a session is only good under.

    False: not possible in this Python, tickets stay this context's own.
    """
    if sys.implementation.name != "cpython" or sys.version_info[:2] not in KNOWN_VERSIONS:
        return False
    import _ssl

    keys = hashlib.shake_256(secret + repr(about).encode()).digest(_SIZE)
    try:
        control = ctypes.CDLL(getattr(_ssl, "__file__", None)).SSL_CTX_ctrl
    except (OSError, AttributeError):  # linked in another way
        return False
    control.restype = ctypes.c_long
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    return bool(control(pointer, _SET_KEYS, _SIZE, keys) == 1)
