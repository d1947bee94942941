"""The HTTP API for looking: `/api/explain`, `/api/history/HOST` and `/api/doctor`. JSON out."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from router.admin.routes_api import problem

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")

Explain = Callable[[str, bool, bytes], Awaitable[dict[str, Any] | None]]


class InspectApi:
    """Handlers. `explain` asks a worker; `history` and `doctor` give what is ready for JSON."""

    def __init__(
        self,
        *,
        explain: Explain,
        history: Callable[[str], list[dict[str, Any]]],
        doctor: Callable[[], Awaitable[list[dict[str, Any]]]],
        hints: Callable[[str], list[str]],
    ) -> None:
        """`hints` says what is known about a host without a route."""
        self._ask = explain
        self._look_back = history
        self._examine = doctor
        self._hints = hints

    @property
    def routes(self) -> list[web.RouteDef]:
        """For an aiohttp application."""
        return [
            web.get("/api/explain", self._explain),
            web.get("/api/history/{host:.+}", self._history),
            web.get("/api/doctor", self._doctor),
        ]

    async def _explain(self, request: web.Request) -> web.Response:
        query = request.query
        method, client = query.get("method", "GET"), query.get("client", "192.0.2.1")
        try:
            url = urlsplit(query.get("url", ""))
            ipaddress.ip_address(client)
            head = head_of(method, url.netloc, url.path or "/", url.query, query.getall("header", []))
        except ValueError as error:
            return problem(400, str(error))
        if url.scheme not in ("http", "https") or not url.netloc:
            return problem(400, "`url` must be a whole one, such as http://app.example.com/path")
        report = await self._ask(client, url.scheme == "https", head)
        if report is None:
            return problem(503, "no worker answers just now; try again")
        host = report.get("request", {}).get("host", "")
        if "route" not in report and host:
            report["hints"] = self._hints(host)
        return web.json_response(report)

    async def _history(self, request: web.Request) -> web.Response:
        host = request.match_info["host"].lower()
        return web.json_response({"host": host, "events": self._look_back(host), "hints": self._hints(host)})

    async def _doctor(self, request: web.Request) -> web.Response:
        return web.json_response({"now": time.time(), "findings": await self._examine()})


def head_of(method: str, host: str, path: str, query: str, headers: list[str]) -> bytes:
    """A request head; `headers` are `Name: value`. A `Host` among them wins. Raises ValueError."""
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"{method!r} is no method")
    target = path + (f"?{query}" if query else "")
    if not re.fullmatch(r"[\x21-\x7e]+", target):
        raise ValueError("the URL has letters that must be escaped (%20 for a space)")
    lines = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"{header!r} is no header, expected `Name: value`")
        if name.lower() == "host":
            host = value.strip()
        else:
            lines.append(f"{name}: {value.strip()}\r\n")
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{''.join(lines)}\r\n".encode()
