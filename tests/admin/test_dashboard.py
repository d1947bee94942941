"""The dashboard in a real browser: log in, see an app's rate change, kill an instance, see it turn red.

With ROUTER_SCREENSHOTS=1 the pictures in docs/ are taken anew.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from router.messages import EndpointSpec
from tests.support.browser import CHROMIUM, Page, browser
from tests.support.router import ME, router
from tests.support.wire import Backend, Client, answering

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
APPS = ("shop", "search", "login", "images", "mail", "billing", "reports", "help")
SLOW = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def load(port: int, hosts: list[str]) -> AsyncIterator[None]:
    """Requests for these hosts in turn, for as long as the block lasts."""

    async def ask() -> None:
        client = await Client.to(port)
        try:
            while True:
                for host in hosts:
                    await client.get(host, "/products?page=2", "User-Agent: load")
                await asyncio.sleep(0.005)
        finally:
            client.close()

    tasks = [asyncio.ensure_future(ask()) for _ in range(2)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def picture(page: Page, name: str) -> None:
    if os.environ.get("ROUTER_SCREENSHOTS"):
        PICTURES.mkdir(exist_ok=True)
        await page.screenshot(PICTURES / name)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
async def test_an_operator_looks_on(tmp_path: Path) -> None:
    backends = [Backend(answering(SLOW)) for _ in range(3)] + [Backend(answering(SLOW, SLOW, SLOW, BROKEN, SLOW))]
    for backend in backends:
        await backend.start()
    async with router(tmp_path, backends={"max_attempts": 3}) as control, browser(tmp_path / "profile") as page:
        for number, app in enumerate(APPS):
            for instance in range(1 + number % 3):
                port = backends[(number + instance) % len(backends)].port
                spec = EndpointSpec(
                    "127.0.0.1", port, app=app, instance_id=f"{app}-{instance}", instance_index=str(instance)
                )
                control.registry.register(spec, [f"{app}.example.com", f"www.example.com/{app}"])
        base = f"http://127.0.0.1:{control.status_port}"
        await page.size(1280, 900)

        # The wrong password: nothing is shown.
        await page.open(base)
        await page.wait("document.body?.innerText.includes('401')")
        page.problems.clear()
        page.credentials = ("me", "secret")
        await page.open(base)
        await page.wait("document.querySelector('#apps tr[data-app=shop]')")
        assert await page.run("document.querySelector('#apps tr[data-app=search] td.n').textContent") == "0"

        async with load(control.port, [f"{app}.example.com" for app in APPS for _ in range(1 + len(app) % 3)]):
            await page.wait("Number(document.querySelector('#apps tr[data-app=search] td.n').textContent) > 0")
            assert await page.run("document.querySelector('#live').textContent") == "live"
            if os.environ.get("ROUTER_SCREENSHOTS"):
                await asyncio.sleep(20)  # a minute's line with something on it
                await picture(page, "dashboard.png")

            # Filtering on the server, by the keyboard: / goes to the field.
            await page.key("/", 191, "/")
            await page.tell("Input.insertText", text="www.example.com/mail")
            await page.wait("document.querySelectorAll('#apps tr').length === 1")
            assert await page.run("document.querySelector('#apps tr').dataset.app") == "mail"

            # An app's page; one of its instances dies and turns red, with the reason.
            await page.run("location.hash = '#/app/search'")
            await page.wait("document.querySelectorAll('#endpoints tr').length === 2")
            await page.wait("document.querySelectorAll('#endpoints .pill.good').length === 2")
            dead = backends[1]
            await dead.stop()
            row = f'#endpoints tr[data-backend="127.0.0.1:{dead.port}"]'
            await page.wait(f"document.querySelector('{row}.ejected')")
            text = await page.run(f"document.querySelector('{row}').innerText")
            assert "failed" in text
            assert "connection refused" in text
            red = await page.run(f"getComputedStyle(document.querySelector('{row} .pill')).color")
            green = await page.run("getComputedStyle(document.querySelector('#endpoints .pill.good')).color")
            assert red != green
            await page.wait("document.querySelector('#events').innerText.includes('endpoint-ejected')")
            if os.environ.get("ROUTER_SCREENSHOTS"):
                await page.size(1280, 1100, dark=True)
                await page.run("scrollTo(0, 0)")
                await asyncio.sleep(2)
                await picture(page, "dashboard-app.png")
                await page.size(390, 800, phone=True)
                await page.run("location.hash = '#/'; document.querySelector('#filter').value = ''")
                await page.run("document.querySelector('#filter').dispatchEvent(new Event('input'))")
                await asyncio.sleep(2)
                await picture(page, "dashboard-phone.png")

        await page.size(390, 800, phone=True)
        await page.run("location.hash = '#/'")
        await page.wait("document.querySelector('#apps tr')?.checkVisibility()")
        assert await page.run("document.documentElement.scrollWidth <= innerWidth"), "wider than a phone"
        table = "document.querySelector('#all .scroll')"
        assert await page.run(f"{table}.scrollWidth <= {table}.clientWidth"), "columns are hidden on a phone"
        unnamed = "[...document.querySelectorAll('input, select, button, meter')].filter(e => !(e.labels?.length"
        assert await page.run(f"{unnamed} || e.textContent.trim() || e.getAttribute('aria-label'))).length") == 0
        # A browser asks for an icon of the page that refused it, in its own time.
        assert not [problem for problem in page.problems if "favicon.ico" not in problem]
        assert {url[: len(base)] for url in page.requested if not url.startswith("about:")} == {base}
    for backend in backends:
        if backend is not dead:
            await backend.stop()


async def test_pages_are_held_to_the_router_and_to_the_status_user(tmp_path: Path) -> None:
    async with router(tmp_path) as control, aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{control.status_port}"
        for path in (
            "/",
            "/dashboard/main.js",
            "/metrics",
            "/api/overview",
            "/api/stream",
            "/api/apps",
            "/api/failures",
        ):
            async with session.get(base + path) as response:
                assert response.status == 401, path
        headers = {"Authorization": ME}
        async with session.get(f"{base}/", headers=headers) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
        async with session.get(f"{base}/api/apps?sort=size", headers=headers) as response:
            assert response.status == 400
            assert "sort: one of app, rate" in (await response.json())["error"]
        cross = {**headers, "Sec-Fetch-Site": "cross-site"}
        async with session.delete(f"{base}/api/routes/x", headers=cross) as response:
            assert response.status == 403
        async with session.get(f"{base}/api/stream", headers=headers) as response:
            event = await response.content.readline()
            assert event == b"event: overview\n"


async def test_ten_thousand_apps_are_paged_on_the_server(tmp_path: Path) -> None:
    async with router(tmp_path) as control, aiohttp.ClientSession(headers={"Authorization": ME}) as session:
        for number in range(10_000):
            spec = EndpointSpec("127.0.0.1", 1 + number, app=f"app-{number:05}")
            control.registry.register(spec, [f"a{number}.test"])
        base = f"http://127.0.0.1:{control.status_port}/api/apps"
        async with session.get(f"{base}?sort=app&offset=9990&limit=25") as response:
            page = await response.json()
        assert (page["total"], page["apps"][0]["app"], len(page["apps"])) == (10_000, "app-09990", 10)
        async with session.get(f"{base}?q=a77.test") as response:
            page = await response.json()
        assert [row["app"] for row in page["apps"]] == ["app-00077"]
