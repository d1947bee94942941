"""Static routes, from the configuration and by the API: a whole router without a bus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.control.app import Control
from tests.support.router import ME, router
from tests.support.wire import Client
from tests.support.workers import backend, get


def route(port: int, uri: str = "api.test", **more: Any) -> dict[str, Any]:
    return {"uris": [uri], "endpoints": [{"host": "127.0.0.1", "port": port}], **more}


class Api:
    """A client of the API of one router."""

    def __init__(self, session: aiohttp.ClientSession, control: Control) -> None:
        self._session = session
        self._base = f"http://127.0.0.1:{control.routes_port}/api/routes"

    async def __call__(
        self, method: str, name: str = "", body: Any = None, auth: str = ME, **headers: str
    ) -> tuple[int, Any, str]:
        """Status, decoded body, ETag."""
        fields = {"Authorization": auth} | {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self._base}/{name}" if name else self._base
        data = {"data": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        async with self._session.request(method, url, headers=fields, **data) as answer:
            text = await answer.text()
            decoded = await answer.json() if answer.content_type == "application/json" else text
            return answer.status, decoded, answer.headers.get("ETag", "")


async def test_a_router_without_a_bus_serves_static_routes_and_is_healthy(tmp_path: Path) -> None:
    async with backend() as port:
        routes = [route(port, "App.test/Api", name="shop")]
        async with router(tmp_path, routes=routes, prune_stale_droplets_interval="10ms") as control:
            assert await get(control.port, "app.test", "/api/x") == (200, b"hello")
            assert (await get(control.port, "app.test"))[0] == 404
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{control.status_port}/health") as answer:
                    assert (answer.status, await answer.text()) == (200, "ok\n")
                _, listed, _ = await Api(session, control)("GET")
                assert [(r["name"], r["source"], r["uris"]) for r in listed["routes"]] == [
                    ("shop", "file", ["App.test/Api"])
                ]


async def test_put_get_delete_with_versions(tmp_path: Path) -> None:
    async with backend() as port, router(tmp_path) as control, aiohttp.ClientSession() as session:
        api = Api(session, control)
        status, made, first = await api("PUT", "a", route(port))
        assert (status, made["name"], made["source"], made["etag"]) == (201, "a", "api", first)
        assert (await get(control.port, "api.test"))[0] == 200
        assert await api("GET", "a") == (200, made, first)
        assert (await api("GET", "a", If_None_Match=first))[0] == 304
        assert (await api("PUT", "a", route(port), If_None_Match="*"))[0] == 412
        assert (await api("PUT", "a", route(port, "other.test"), If_Match='"old"'))[0] == 412
        status, _, second = await api("PUT", "a", route(port, "other.test"), If_Match=first)
        assert status == 200
        assert second != first
        assert [(await get(control.port, host))[0] for host in ("api.test", "other.test")] == [404, 200]
        assert (await api("DELETE", "a", If_Match=first))[0] == 412
        assert (await api("DELETE", "a", If_Match=second))[0] == 204
        assert (await get(control.port, "other.test"))[0] == 404
        assert (await api("DELETE", "a"))[:2] == (404, {"error": "there is no static route a"})
        assert (await api("PUT", "b", route(port), If_Match="*"))[0] == 412


async def test_a_route_with_a_route_service_and_an_http2_backend(tmp_path: Path) -> None:
    body = route(1, route_service_url="https://localhost:1/x")
    body["endpoints"] = [{"host": "127.0.0.1", "tls_port": 2, "protocol": "http2"}]
    async with router(tmp_path, route_services_secret="secret") as control, aiohttp.ClientSession() as session:
        api = Api(session, control)
        status, made, _ = await api("PUT", "a", body)
        assert (status, made["route_service_url"]) == (201, "https://localhost:1/x")
        ((_, (spec,)),) = control.registry.routes()
        assert (spec.route_service_url, spec.protocol, spec.tls) == ("https://localhost:1/x", "http2", True)
        assert (await get(control.port, "api.test"))[0] == 502  # the service's, which nobody answers for


async def test_nothing_goes_around_a_route_service_without_a_secret(tmp_path: Path) -> None:
    async with backend() as port, router(tmp_path) as control, aiohttp.ClientSession() as session:
        await Api(session, control)("PUT", "a", route(port, route_service_url="https://service.test/"))
        client = await Client.to(control.port)
        status, head, _ = await client.get("api.test")
        assert status == 502
        assert b"X-Cf-RouterError: route_service_unsupported" in head
        client.close()


async def test_a_restart_keeps_routes_of_the_api(tmp_path: Path) -> None:
    async with backend() as port:
        async with router(tmp_path) as control, aiohttp.ClientSession() as session:
            await Api(session, control)("PUT", "a", route(port))
        async with router(tmp_path) as control:
            assert (await get(control.port, "api.test"))[0] == 200
            assert (tmp_path / "run" / "0-0" / "routes.json").stat().st_mode & 0o777 == 0o600


async def test_routes_of_the_file_are_changed_in_the_file(tmp_path: Path) -> None:
    async with router(tmp_path, routes=[route(1, name="mine")]) as control, aiohttp.ClientSession() as session:
        api = Api(session, control)
        for method in ("PUT", "DELETE"):
            status, told, _ = await api(method, "mine", route(2))
            assert status == 409
            assert told["error"].startswith("mine is a route of the configuration file")


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        (b"{", 400, None),
        (b"[]", 422, {"": "expected a JSON object with `uris` and `endpoints`"}),
        (
            {"uris": ["http://x"], "endpoints": [{"host": "h"}], "option": {}},
            422,
            {
                "uris[0]": '"http://x" given, expected a host or host/path, without scheme and port, such as '
                "`app.example.com/api` or `*.example.com`",
                "endpoints[0]": "expected `port` or `tls_port`, 1 to 65535",
                "option": "there is no such key (did you mean `options`?)",
            },
        ),
        (
            {"uris": [], "endpoints": [{"host": "h", "port": 70000}]},
            422,
            {
                "uris": "expected a list of hosts or host/paths, at least one",
                "endpoints[0].port": "70000 given, expected a port number, 0 to 65535",
            },
        ),
        (
            route(1, options={"loadbalancing": "fair"}),
            422,
            {"options.loadbalancing": '"fair" given, expected one of'},
        ),
        (
            route(1, route_service_url="http://service.test/"),
            422,
            {"route_service_url": '"http://service.test/" given, expected an https URL such as'},
        ),
        (route(1, route_service_url="https:///x"), 422, {"route_service_url": '"https:///x" given, expected'}),
        (route(1, route_service_url="https://x:99999/"), 422, {"route_service_url": '"https://x:99999/" given, exp'}),
        (route(1, name="other"), 422, {"name": "it is other here and a in the URL; leave it out"}),
    ],
)
async def test_a_bad_body_names_its_fields(
    tmp_path: Path, body: Any, status: int, fields: dict[str, str] | None
) -> None:
    async with router(tmp_path) as control, aiohttp.ClientSession() as session:
        got, told, _ = await Api(session, control)("PUT", "a", body)
        assert got == status
        if fields is not None:
            messages = {each["field"]: each["message"] for each in told["fields"]}
            assert messages.keys() == fields.keys()
            for field, message in fields.items():
                assert messages[field].startswith(message)


async def test_what_the_api_refuses(tmp_path: Path) -> None:
    async with router(tmp_path) as control, aiohttp.ClientSession() as session:
        api = Api(session, control)
        assert (await api("GET", auth=""))[0] == 401
        assert (await api("PUT", "a", route(1), auth=aiohttp.encode_basic_auth("me", "wrong")))[0] == 401
        assert (await api("PUT", "a/b", route(1)))[0] == 400
        assert (await api("POST", "a", route(1)))[:2] == (405, {"error": "Method Not Allowed"})
