"""The HTTP API of static routes: `/api/routes` and `/api/routes/NAME`, JSON in and out.

A route has the shape of an item of `routes:` in the configuration. `ETag` names a version of it: with `If-Match` a
change happens only to that version, `If-None-Match: *` only adds (RFC 9110 §13.1). What can't be done is answered with
a JSON object whose `error` says why; for a body that is no route, `fields` has a message each.
"""

from __future__ import annotations

import json
import re
from typing import Any

from aiohttp import web

from router.admin.store import FILE, Named, Store, StoreError, body_of
from router.config.route_body import RouteError, read_route

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SUBJECT = "/api/routes/{name:.+}"


class RoutesApi:
    """Handlers over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def routes(self) -> list[web.RouteDef]:
        """For an aiohttp application."""
        return [
            web.get("/api/routes", self._list),
            web.get(_SUBJECT, self._get),
            web.put(_SUBJECT, self._put),
            web.delete(_SUBJECT, self._delete),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"routes": [_shown(named) for named in self._store.all()]})

    async def _get(self, request: web.Request) -> web.Response:
        named = self._store.get(request.match_info["name"])
        if named is None:
            return _missing(request.match_info["name"])
        if request.headers.get("If-None-Match") == _etag(named):
            return web.Response(status=304, headers={"ETag": _etag(named)})
        return web.json_response(_shown(named), headers={"ETag": _etag(named)})

    async def _put(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if not _NAME.fullmatch(name):
            return problem(400, "a name of a route is 1 to 128 letters, digits, `.`, `_` and `-`")
        before = self._store.get(name)
        if (refusal := _refusal(request, before)) is not None:
            return refusal
        try:
            route = read_route(json.loads(await request.read()))
            if route.name not in ("", name):
                raise RouteError([("name", f"it is {route.name} here and {name} in the URL; leave it out")])
        except RouteError as error:
            fields = [{"field": field, "message": message} for field, message in error.fields]
            return problem(422, "this is no route", fields=fields)
        except (ValueError, RecursionError) as error:
            return problem(400, f"the body is not JSON: {error}")
        try:
            named = self._store.put(name, route)
        except StoreError as error:
            return problem(500, str(error))
        return web.json_response(_shown(named), status=201 if before is None else 200, headers={"ETag": _etag(named)})

    async def _delete(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        before = self._store.get(name)
        if before is None:
            return _missing(name)
        if (refusal := _refusal(request, before)) is not None:
            return refusal
        try:
            self._store.delete(name)
        except StoreError as error:
            return problem(500, str(error))
        return web.Response(status=204)


def problem(status: int, error: str, **more: Any) -> web.Response:
    """What can't be done, as every part of the API says it."""
    return web.json_response({"error": error, **more}, status=status)


def _refusal(request: web.Request, named: Named | None) -> web.Response | None:
    """Why this route may not be changed by this request."""
    if named is not None and named.source == FILE:
        return problem(409, f"{named.name} is a route of the configuration file: change it there, or use another name")
    wanted, unwanted = (_tags(request.headers.get(name)) for name in ("If-Match", "If-None-Match"))
    tag = None if named is None else _etag(named)
    if wanted and (tag is None or not wanted & {"*", tag}):
        now = "it does not exist" if tag is None else f"it is {tag} now"
        return problem(412, f"not the version that If-Match names: {now}; read it again")
    if tag is not None and unwanted & {"*", tag}:
        return problem(412, "it exists already; without If-None-Match it would be replaced")
    return None


def _tags(header: str | None) -> set[str]:
    return {tag.strip() for tag in (header or "").split(",")} - {""}


def _etag(named: Named) -> str:
    return f'"{named.tag}"'


def _missing(name: str) -> web.Response:
    return problem(404, f"there is no static route {name}")


def _shown(named: Named) -> dict[str, Any]:
    return {"name": named.name, "source": named.source, "etag": _etag(named), **body_of(named.route)}
