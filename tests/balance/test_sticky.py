"""Sticky sessions, row by row of contract §4.7: pure first, then over the wire."""

from __future__ import annotations

import pytest

from router.balance.sticky import Sticky, Wish
from router.messages import EndpointSpec
from tests.support.wire import Bench, Script, answering, serving

HERE = EndpointSpec("10.0.0.1", 8080, instance_id="i1")


def headers(*pairs: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    return dict(pairs)


NEGOTIATE = (b"authorization", b"NEGOTIATE abc")
WISHES = [
    # cookies, negotiate mode, authorization, what is asked for
    (b"JSESSIONID=x; __VCAP_ID__=i1", False, None, Wish("i1", False)),
    (b"__VCAP_ID__=i1;JSESSIONID=", False, None, Wish("i1", False)),
    (b'JSESSIONID=x, __VCAP_ID__="a, b"', False, None, Wish("a, b", False)),
    (b"__VCAP_ID__=i1", False, None, None),
    (b"JSESSIONID=x", False, None, None),
    (b"jsessionid=x; __VCAP_ID__=i1", False, None, None),
    (b"XJSESSIONID=x; __VCAP_ID__=i1", False, None, None),
    (b"JSESSIONID=x; X__VCAP_ID__=i1", False, None, None),
    (b"JSESSIONID=x; __VCAP_ID__=", False, None, None),
    (b"sid.1=x; __VCAP_ID__=i1", False, None, Wish("i1", False)),
    (b"sidx1=x; __VCAP_ID__=i1", False, None, None),
    (b"__VCAP_ID__=i1", True, b"negotiate abc", Wish("i1", True)),
    (b"__VCAP_ID__=i1", True, b"NeGoTiAtE abc", Wish("i1", True)),
    (b"__VCAP_ID__=i1", True, b"Basic abc", None),
    (b"JSESSIONID=x; __VCAP_ID__=i1", True, None, Wish("i1", False)),
    (b"__VCAP_ID__=i1", False, b"negotiate abc", None),
]


@pytest.mark.parametrize(("cookies", "negotiate", "authorization", "wish"), WISHES)
def test_what_a_request_asks_for(
    cookies: bytes, negotiate: bool, authorization: bytes | None, wish: Wish | None
) -> None:
    sticky = Sticky(("JSESSIONID", "sid.1"), negotiate=negotiate)
    assert sticky.wish(cookies, lambda name: authorization if name == b"authorization" else None) == wish


def test_no_session_cookies_means_no_sessions() -> None:
    assert Sticky(()).wish(b"=x; __VCAP_ID__=i1", lambda name: None) is None


SESSION = (b"Set-Cookie", b"JSESSIONID=x")
OURS = b"__VCAP_ID__=i1; Path=/ctx"
COOKIES = [
    # response headers, the request's wish, what is set
    ([], None, b""),
    ([(b"Set-Cookie", b"other=x")], None, b""),
    ([SESSION], None, OURS + b"; HttpOnly"),
    ([SESSION], Wish("i1", False), OURS + b"; HttpOnly"),
    ([SESSION, (b"set-cookie", b"__VCAP_ID__=mine")], None, b""),
    ([(b"Set-Cookie", b"JSESSIONID=x; Secure")], None, OURS + b"; HttpOnly; Secure"),
    ([(b"Set-Cookie", b"JSESSIONID=x; samesite=none")], None, OURS + b"; HttpOnly; SameSite=None"),
    ([(b"Set-Cookie", b"JSESSIONID=x; SameSite=odd")], None, OURS + b"; HttpOnly"),
    ([(b"Set-Cookie", b"JSESSIONID=x; Partitioned")], None, OURS + b"; HttpOnly; Partitioned"),
    ([(b"Set-Cookie", b"JSESSIONID=x; Domain=a.com; Path=/z; Max-Age=5")], None, OURS + b"; HttpOnly"),
    ([(b"Set-Cookie", b"JSESSIONID=x; Max-Age=0")], None, OURS + b"; Max-Age=0; HttpOnly"),
    ([(b"Set-Cookie", b"JSESSIONID=x; Max-Age=-3")], None, OURS + b"; Max-Age=0; HttpOnly"),
    (
        [(b"Set-Cookie", b"JSESSIONID=x; Expires=Wed, 21-Oct-2026 07:28:00 GMT")],
        None,
        OURS + b"; Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly",
    ),
    ([(b"Set-Cookie", b"JSESSIONID=x; Expires=soon")], None, OURS + b"; HttpOnly"),
    (
        [
            (
                b"Set-Cookie",
                b"JSESSIONID=x; Partitioned; SameSite=Lax; Secure; Max-Age=0; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
            )
        ],
        None,
        OURS + b"; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Max-Age=0; HttpOnly; Secure; SameSite=Lax; Partitioned",
    ),
    ([SESSION, (b"Set-Cookie", b"JSESSIONID=y; Secure")], None, OURS + b"; HttpOnly"),
    # another endpoint than the one asked for
    ([], Wish("gone", False), OURS + b"; HttpOnly"),
    ([], Wish("i1", False), b""),
    ([], Wish("10.0.0.1:8080", False), b""),
]


@pytest.mark.parametrize(("response", "wish", "cookie"), COOKIES)
def test_what_a_response_gets(response: list[tuple[bytes, bytes]], wish: Wish | None, cookie: bytes) -> None:
    sticky = Sticky(("JSESSIONID",))
    line = sticky.cookie_line(wish, HERE, "/ctx", lambda name: None, response)
    assert line == (b"Set-Cookie: " + cookie + b"\r\n" if cookie else b"")


CHALLENGE = (b"WWW-Authenticate", b"Negotiate")
NEGOTIATIONS = [
    ([CHALLENGE], None, OURS + b"; Max-Age=60; HttpOnly; SameSite=Strict"),
    ([CHALLENGE, (b"Set-Cookie", b"JSESSIONID=x; Secure")], None, OURS + b"; Max-Age=60; HttpOnly; SameSite=Strict"),
    ([CHALLENGE], Wish("i1", True), b""),
    ([(b"WWW-Authenticate", b"Basic")], None, b""),
]


@pytest.mark.parametrize(("response", "wish", "cookie"), NEGOTIATIONS)
def test_an_authentication_is_kept_on_its_instance(
    response: list[tuple[bytes, bytes]], wish: Wish | None, cookie: bytes
) -> None:
    line = Sticky(("JSESSIONID",), negotiate=True).cookie_line(wish, HERE, "/ctx", lambda name: None, response)
    assert line == (b"Set-Cookie: " + cookie + b"\r\n" if cookie else b"")
    assert not Sticky((), negotiate=False).cookie_line(wish, HERE, "/ctx", lambda name: None, response)


def test_the_rest_of_the_cookie() -> None:
    def line(spec: EndpointSpec, secure: bool = False, *sent: bytes) -> bytes:
        return Sticky(("JSESSIONID",), secure=secure).cookie_line(
            None, spec, "/", lambda name: b"x" if name in sent else None, [SESSION]
        )

    assert line(HERE, True) == b"Set-Cookie: __VCAP_ID__=i1; Path=/; HttpOnly; Secure\r\n"
    assert line(EndpointSpec("h", 1)) == b""
    assert line(EndpointSpec("h", 1, instance_id="a b"), True).startswith(b'Set-Cookie: __VCAP_ID__="a b"; Path')
    assert line(EndpointSpec("h", 1, instance_id="a;\r\nb")).startswith(b"Set-Cookie: __VCAP_ID__=ab; Path")
    assert line(HERE, False, b"x-cf-proxy-signature")
    assert not line(HERE, False, b"x-cf-proxy-signature", b"x-cf-forwarded-url")


# ---------------------------------------------------------------- over the wire

SESSIONS = "Cookie: JSESSIONID=x; __VCAP_ID__="


def named(number: int, extra: str = "") -> Script:
    body = f"{number}"
    return answering(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{extra}\r\n{body}".encode())


async def ask(bench: Bench, *lines: str) -> tuple[int, bytes, bytes]:
    client = await bench.client()
    return await client.get("app.test", "/", *lines)


async def test_a_session_stays_where_it_began() -> None:
    scripts = [named(number, "Set-Cookie: JSESSIONID=x\r\n") for number in range(3)]
    async with serving(*scripts) as (bench, _):
        _, head, body = await ask(bench)
        assert b"Set-Cookie: __VCAP_ID__=instance-%b; Path=/; HttpOnly\r\n" % body in head
        for _ in range(4):
            assert (await ask(bench, f"{SESSIONS}instance-{body.decode()}"))[2] == body


async def test_a_stale_session_is_served_elsewhere_and_told_so() -> None:
    async with serving(named(0)) as (bench, _):
        status, head, _ = await ask(bench, f"{SESSIONS}gone")
        assert status == 200
        assert b"Set-Cookie: __VCAP_ID__=instance-0; Path=/; HttpOnly\r\n" in head


async def test_a_marked_endpoint_still_has_its_sessions() -> None:
    async with serving(named(0), named(1)) as (bench, _):
        bench.plane.loads.now = 1.0
        bench.plane.table.endpoints[1].failed_at = 1.0
        assert (await ask(bench, f"{SESSIONS}instance-0"))[2] == b"0"


async def test_negotiation_must_have_its_instance() -> None:
    async with serving(named(0), sticky_auth_negotiate=True) as (bench, _):
        lines = ("Authorization: Negotiate abc", "Cookie: __VCAP_ID__=gone")
        status, head, _ = await ask(bench, *lines)
        assert (status, b"endpoint_failure (No endpoints available)" in head) == (502, True)
        assert (await ask(bench, lines[0], "Cookie: __VCAP_ID__=instance-0"))[0] == 200
