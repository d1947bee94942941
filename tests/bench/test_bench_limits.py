"""The smaller of the bench's claims hold on every commit: streams in constant memory, whichever side is slow."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


async def limits(*arguments: str) -> str:
    """What `python -m bench.limits` prints; all must hold."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.limits", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def test_streams_pass_whole_in_constant_memory() -> None:
    output = await limits("streams", "--mebibytes", "64")
    assert output.count("| holds |") == 4
    assert output.count("same hash,") == 8


async def test_grpc_calls_pass_whole_in_constant_memory() -> None:
    output = await limits("grpc", "--messages", "400")
    assert output.count("| holds |") == 3
