"""`router top` and `router failures`: keys and pictures without a terminal, and both against a router that serves."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from router.cli.top import State, spark
from router.messages import EndpointSpec
from tests.support.router import router
from tests.support.wire import OK, Backend, Client, answering


def after(*keys: str, state: State | None = None, apps: int = 3, total: int = 3) -> State:
    state = state or State()
    for key in keys:
        state.press(key, [f"app-{n}" for n in range(apps)], total)
    return state


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        (["e"], {"sort": "errors", "descending": True}),
        (["r"], {"sort": "rate", "descending": False}),
        (["a"], {"sort": "app", "descending": False}),
        ([" "], {"descending": False}),
        (["/", "x", "q", "\x7f", "\r"], {"text": "x", "typing": False, "done": False}),
        (["/", "x", "\r", "\x1b"], {"text": ""}),
        (["\x1b[B", "j", "\r"], {"selected": 2, "app": "app-2"}),
        (["j", "\r", "\x1b"], {"app": None}),
        (["k", "k"], {"selected": 0}),
        (["q"], {"done": True}),
        (["\x1b[20~", "\t"], {"selected": 0, "done": False}),
    ],
)
def test_keys(keys: list[str], shown: dict[str, object]) -> None:
    state = after(*keys)
    assert {name: getattr(state, name) for name in shown} == shown


def test_the_list_moves_under_the_cursor() -> None:
    state = after("j", "j", "j", "j", total=10)
    assert (state.selected, state.offset) == (2, 2)
    assert (after("k", "k", "k", state=state, total=10).offset, state.selected) == (1, 0)


def test_spark() -> None:
    assert spark([0, 1, 4, 8], 4) == " ▁▄█"
    assert spark([0, 0], 2) == "  "


async def command(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router.cli.main", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_against_a_router(tmp_path: Path) -> None:
    backend = Backend(answering(OK))
    await backend.start()
    async with router(tmp_path) as control:
        control.registry.register(EndpointSpec("127.0.0.1", backend.port, app="shop"), ["shop.test"])
        client = await Client.to(control.port)
        await client.get("shop.test")
        status, head, _ = await client.get("nope.test")
        client.close()
        assert status == 404
        told = control.figures
        async with asyncio.timeout(10):
            while not told.failures.find(text="nope.test"):
                await asyncio.sleep(0.01)
        request_id = told.failures.find(text="nope.test")[0]["request_id"]
        assert request_id in head.decode() or b"X-Vcap-Request-Id" not in head
        url = f"http://me:secret@127.0.0.1:{control.status_port}"
        results = await asyncio.gather(
            command("top", "--url", url, "--once"),
            command("top", "--url", url, "--json", "--app", "shop"),
            command("failures", "--url", url, "--request-id", request_id),
            command("failures", "--url", url, "--request-id", "unknown"),
            command("top", "--url", url),
            command("top", "--url", url, "--once", "--sort", "size"),
        )
    await backend.stop()
    once, one, failed, unknown, no_terminal, wrong = results
    assert once[0] == 0
    assert "shop" in once[1]
    assert json.loads(one[1])["app"]["responses"]["2xx"] == 1
    assert "unknown_route" in failed[1]
    assert (unknown[0], failed[0]) == (1, 0)
    assert no_terminal[0] == wrong[0] == 2
    assert "--once" in no_terminal[2]
    assert "rate" in wrong[2]
