"""Header rules as tables (contract §5.3, §5.5; RFC 9110 §7.6.1).

A header with a row is noted, under its lower-case name, for the router's own use; the row says whether it is also
passed on as it came. Headers without a row are passed on and not looked at. `Connection` has no say in headers with a
row: what the router reads or sets can't be removed by naming it there. A new rule is one row here and one in its test
table.
"""

from __future__ import annotations

from router.http.message import Rule

SIGNATURE = b"x-cf-proxy-signature"
METADATA = b"x-cf-proxy-metadata"
FORWARDED_URL = b"x-cf-forwarded-url"
"""What a request carries on its way through a route service (contract §10; `http.signature`)."""

# name, passed on
_REQUEST = (
    # routed by, re-made in one canonical form
    (b"host", False),
    (b"content-length", False),
    (b"transfer-encoding", False),
    # hop-by-hop
    (b"connection", False),
    (b"keep-alive", False),
    (b"proxy-connection", False),
    (b"proxy-authenticate", False),
    (b"proxy-authorization", False),
    (b"te", False),
    (b"trailer", False),
    (b"upgrade", False),
    (b"http2-settings", False),
    # set by the router
    (b"x-forwarded-for", False),
    (b"x-forwarded-proto", False),
    (b"x-request-start", False),
    (b"x-vcap-request-id", False),
    (b"x-cf-applicationid", False),
    (b"x-cf-instanceid", False),
    (b"x-cf-instanceindex", False),
    (b"x-cf-app-instance", False),
    # read and passed on
    (b"expect", True),
    (b"user-agent", True),
    (b"referer", True),
    (b"cookie", True),
    (b"x-vcap-trace", True),
    (b"x-cf-process-instance", True),
    (SIGNATURE, True),
    (METADATA, True),
    (FORWARDED_URL, True),
)

_RESPONSE = (
    (b"content-length", False),
    (b"transfer-encoding", False),
    (b"connection", False),
    (b"keep-alive", False),
    (b"proxy-connection", False),
    (b"proxy-authenticate", False),
    (b"proxy-authorization", False),
    (b"te", False),
    (b"trailer", False),
    (b"upgrade", False),
    (b"date", True),
    (b"set-cookie", True),
    (b"x-vcap-request-id", True),
    (SIGNATURE, False),
)

REQUEST_RULES = {name: Rule(name, passed) for name, passed in _REQUEST}
RESPONSE_RULES = {name: Rule(name, passed) for name, passed in _RESPONSE}

_UNSAFE_TRAILERS = frozenset(
    (
        # framing and content (RFC 9110 §6.5.1)
        b"content-encoding",
        b"content-range",
        b"content-type",
        # request modifiers, authentication, cookies
        b"authorization",
        b"cache-control",
        b"cookie",
        b"expect",
        b"forwarded",
        b"max-forwards",
        b"pragma",
        b"range",
        b"set-cookie",
        b"www-authenticate",
    )
)
_ROUTERS_OWN = (b"x-forwarded-", b"x-cf-", b"x-vcap-", b"if-", b"proxy-")


def unsafe_trailer(name: bytes) -> bool:
    """A field that must not come as a trailer: it frames, routes, authenticates, or is the router's own to set."""
    name = name.lower().replace(b"_", b"-")  # as in RuleBook
    return name in REQUEST_RULES or name in RESPONSE_RULES or name in _UNSAFE_TRAILERS or name.startswith(_ROUTERS_OWN)
