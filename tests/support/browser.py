"""A headless Chromium, driven over its DevTools protocol. `page.wait("js")` returns when the expression is true."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
TIMEOUT = 30.0


class Page:
    """One page. `problems` are what it wrote to the console as an error, and requests that left the router."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.credentials: tuple[str, str] | None = None
        self.asked_for_password = 0
        self.problems: list[str] = []
        self.requested: list[str] = []
        self._reading = asyncio.ensure_future(self._read())
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                answer = self._answers.pop(told["id"])
                if not answer.done():
                    answer.set_result(told)
                continue
            self._happened(told["method"], told["params"])

    def _happened(self, method: str, about: dict[str, Any]) -> None:
        match method:
            case "Fetch.requestPaused":
                self._later("Fetch.continueRequest", requestId=about["requestId"])
            case "Fetch.authRequired":
                self.asked_for_password += 1
                answer: dict[str, Any] = {"response": "CancelAuth"}
                if self.credentials is not None:
                    user, password = self.credentials
                    answer = {"response": "ProvideCredentials", "username": user, "password": password}
                self._later("Fetch.continueWithAuth", requestId=about["requestId"], authChallengeResponse=answer)
            case "Network.requestWillBeSent":
                self.requested.append(about["request"]["url"])
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(about["exceptionDetails"])[:500])
            case "Log.entryAdded" if about["entry"]["level"] == "error":
                self.problems.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")

    def _later(self, method: str, **parameters: Any) -> None:
        task = asyncio.ensure_future(self.tell(method, **parameters))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(TIMEOUT):
            told = await answer
        assert "error" not in told, f"{method}: {told['error']}"
        return told["result"]  # type: ignore[no-any-return]

    async def prepare(self) -> None:
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.tell(f"{domain}.enable")
        await self.tell("Fetch.enable", handleAuthRequests=True)

    async def open(self, url: str) -> None:
        await self.tell("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        told = await self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, f"{script}: {told['exceptionDetails']}"
        return told["result"].get("value")

    async def wait(self, script: str) -> None:
        """Return when the expression is true."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while not await self.run(f"Boolean({script})"):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            text = await self.run("document.body.innerText")
            raise AssertionError(f"never true: {script}\n{self.problems}\n{text}") from None

    async def key(self, key: str, code: int, text: str = "") -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            pressed = {"text": text} if text and kind == "keyDown" else {}
            await self.tell("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **pressed)

    async def size(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        await self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        scheme = "dark" if dark else "light"
        await self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def screenshot(self, path: Path) -> None:
        told = await self.tell("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(told["data"]))

    async def close(self) -> None:
        self._reading.cancel()
        await self._socket.close()


@asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Page]:
    """A browser with one empty page, from its start to the end of the block."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(TIMEOUT):
                url = await _page_of(session, profile, process)
            async with session.ws_connect(url, max_msg_size=1 << 26) as socket:
                page = Page(socket)
                await page.prepare()
                yield page
                await page.close()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
        await process.wait()


async def _page_of(session: aiohttp.ClientSession, profile: Path, process: asyncio.subprocess.Process) -> str:
    """Where the browser's page is driven; it tells its port in a file."""
    told = profile / "DevToolsActivePort"
    while not (told.exists() and told.read_text().count("\n")):
        assert process.returncode is None, "chromium has ended"
        await asyncio.sleep(0.02)
    port = int(told.read_text().split("\n")[0])
    async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
        targets = await response.json(content_type=None)
    return str(next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"))
