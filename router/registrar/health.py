"""Health checks of the registering party (contract §15.3): a script, or a GET."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

import aiohttp

from router.registrar.config import HealthCheck

_SHOWN = 512  # bytes of output in a reason


async def unhealthy(check: HealthCheck, timeout: float) -> str:
    """Run a check for at most `timeout` seconds: why the backend is not healthy, "" when it is."""
    if check.script_path:
        return await _run(check.script_path, timeout)
    assert check.url is not None
    return await _ask(check.url, timeout)


async def _run(script: str, timeout: float) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            script,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return f"it can't be run: {error.strerror or error}"
    try:
        async with asyncio.timeout(timeout):
            out, _ = await process.communicate()
    except TimeoutError:
        return f"it took longer than {timeout:g} s"
    finally:
        with suppress(ProcessLookupError):  # what it started ends with it
            os.killpg(process.pid, signal.SIGKILL)
        status = await process.wait()
    if status == 0:
        return ""
    said = out[-_SHOWN:].decode("utf-8", "replace").strip()
    how = f"exit status {status}" if status > 0 else f"signal {-status}"
    return f"{how}: {said}" if said else how


async def _ask(url: str, timeout: float) -> str:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session,
            session.get(url, allow_redirects=False, headers={"User-Agent": "router-registrar"}) as answer,
        ):
            return "" if 200 <= answer.status < 400 else f"{url} answers with status {answer.status}"
    except TimeoutError:
        return f"{url} took longer than {timeout:g} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return f"{url} can't be asked: {error}"
