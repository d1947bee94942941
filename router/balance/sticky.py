"""Sticky sessions (contract §4.7): what a request's cookies ask for, and the cookie that a response gets.

- `__VCAP_ID__` names an instance. It counts only beside a session cookie of the app's (`sticky_session_cookie_names`),
  or, when so configured, beside an `Authorization: Negotiate`, which is bound to one connection to one instance.
- The router's cookie lives as long as the app's: that one's attributes are copied.
- An endpoint that is ejected or unhealthy is not gone back to; one that is only marked failed is (the contract's word).

Bytes in, bytes out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from router.messages import EndpointSpec

COOKIE = b"__VCAP_ID__"
NEGOTIATE = b"negotiate"
NEGOTIATE_SECONDS = 60
"""How long the binding of an authentication lasts; it takes a few round trips."""
_ID = re.compile(rb'(?:^|[;,])[ \t]*__VCAP_ID__=(?:"([^"]*)"|([^;,]*))')
_NO_VALUE = re.compile(r'[^\x20-\x7e]|[";\\]')
_NO_PATH = re.compile(r"[^\x20-\x7e]|;")
_SAME_SITE = {b"lax": b"Lax", b"strict": b"Strict", b"none": b"None"}
_ROUTE_SERVICE = (b"x-cf-proxy-signature", b"x-cf-forwarded-url")
"""A request with both is a leg to a route service, which is no instance of the app."""

Header = Callable[[bytes], bytes | None]


class Wish(NamedTuple):
    """The instance that a request asks for, as its cookie says it. `must`: no other will do."""

    id: str
    must: bool

    def granted(self, spec: EndpointSpec) -> bool:
        """This endpoint is the one."""
        return self.id in (spec.instance_id, spec.address)


class Sticky:
    """The rules of one worker. `negotiate` is `sticky_sessions_for_auth_negotiate`, `secure` is `secure_cookies`."""

    __slots__ = ("_names", "_sent", "negotiate", "secure")

    def __init__(self, names: Iterable[str], *, secure: bool = False, negotiate: bool = False) -> None:
        encoded = [name.encode() for name in names]
        self._names = frozenset(encoded)
        self._sent = re.compile(rb"(?:^|[;,])[ \t]*(?:" + b"|".join(map(re.escape, encoded)) + rb")=")
        self.secure = secure
        self.negotiate = negotiate

    # -------------------------------------------------------- the request

    def wish(self, cookies: bytes, header: Header) -> Wish | None:
        """The instance asked for by a request with this `Cookie`; `header` gives any other header's value."""
        if COOKIE not in cookies:
            return None
        found = _ID.search(cookies)
        id = (found[1] or found[2] or b"").strip(b" \t").decode("utf-8", "surrogateescape") if found else ""
        if not id:
            return None
        if self.negotiate and _begins_negotiation(header(b"authorization")):
            return Wish(id, True)
        return Wish(id, False) if self._names and self._sent.search(cookies) else None

    # -------------------------------------------------------- the response

    def cookie_line(
        self,
        wish: Wish | None,
        spec: EndpointSpec,
        context_path: str,
        request_header: Header,
        response_headers: Iterable[tuple[bytes, bytes]],
    ) -> bytes:
        """The `Set-Cookie` line for a response that `spec` gave, or nothing."""
        if not spec.instance_id:
            return b""
        session: bytes | None = None
        authenticates = False
        for name, value in response_headers:
            key = name.lower()
            if key == b"set-cookie":
                cookie = value.partition(b"=")[0].strip(b" \t")
                if cookie == COOKIE:
                    return b""
                if session is None and cookie in self._names:
                    session = value
            elif key == b"www-authenticate" and self.negotiate and _begins_negotiation(value):
                authenticates = True
        granted = wish is not None and wish.granted(spec)
        if authenticates and not granted:
            attributes = [b"", b"Max-Age=%d" % NEGOTIATE_SECONDS, b"", b"SameSite=Strict", b""]
        elif session is not None:
            attributes = _copied(session)
        elif wish is not None and not granted:
            attributes = [b""] * 5
        else:
            return b""
        if all(request_header(name) for name in _ROUTE_SERVICE):
            return b""
        expires, max_age, secure, same_site, partitioned = attributes
        if self.secure:
            secure = b"Secure"
        path = _NO_PATH.sub("", context_path).encode() or b"/"
        parts = (_value(spec.instance_id), b"Path=" + path, expires, max_age, b"HttpOnly", secure, same_site)
        return b"Set-Cookie: __VCAP_ID__=%b\r\n" % b"; ".join(filter(None, (*parts, partitioned)))


def _begins_negotiation(value: bytes | None) -> bool:
    return value is not None and value[: len(NEGOTIATE)].lower() == NEGOTIATE


def _value(id: str) -> bytes:
    """A cookie's value: what no cookie may carry is left out, what needs quotes gets them (RFC 6265 §4.1.1)."""
    value = _NO_VALUE.sub("", id).encode()
    return b'"%b"' % value if b" " in value or b"," in value else value


def _copied(cookie: bytes) -> list[bytes]:
    """Of the app's cookie: Expires, Max-Age when it ends the cookie, Secure, SameSite, Partitioned."""
    given: dict[bytes, bytes] = {}
    for part in cookie.split(b";")[1:]:
        name, _, value = part.partition(b"=")
        given[name.strip(b" \t").lower()] = value.strip(b' \t"')
    return [
        _expires(given.get(b"expires", b"")),
        b"Max-Age=0" if re.fullmatch(rb"-[0-9]+|0", given.get(b"max-age", b"")) else b"",
        b"Secure" if b"secure" in given else b"",
        b"SameSite=" + same_site if (same_site := _SAME_SITE.get(given.get(b"samesite", b"").lower())) else b"",
        b"Partitioned" if b"partitioned" in given else b"",
    ]


def _expires(value: bytes) -> bytes:
    from email.utils import formatdate, mktime_tz, parsedate_tz  # few apps set one, so not at the start

    parsed = parsedate_tz(value.decode("latin-1")) if value else None
    if parsed is None:
        return b""
    try:
        return b"Expires=" + formatdate(mktime_tz(parsed), usegmt=True).encode()
    except (ValueError, OverflowError):
        return b""
