"""A whole router in the test's own process, without a bus unless the configuration names one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from router.config.load import load
from router.config.model import RouterConfig
from router.control.app import Control
from tests.support.wire import RecordingLog

FREE_PORTS: dict[str, Any] = {
    "port": 0,
    "inet": "127.0.0.1",
    "workers": 0,
    "nats": None,
    "start_response_delay_interval": "50ms",
    "status": {"port": 0, "routes": {"port": 0}, "user": "me", "pass": "secret"},
}
ME = aiohttp.encode_basic_auth("me", "secret")
"""The `Authorization` of those who may."""


def loaded(directory: Path, **config: Any) -> RouterConfig:
    """The configuration of a router with its `run_dir` and configuration file in `directory`."""
    file = directory / "router.yml"
    file.write_text(yaml.safe_dump({**FREE_PORTS, "run_dir": str(directory / "run"), **config}))
    return load(file, {}).config


@asynccontextmanager
async def router(directory: Path, **config: Any) -> AsyncIterator[Control]:
    """A router that serves, with its `run_dir` and configuration file in `directory`."""
    async with Control(loaded(directory, **config), RecordingLog()) as control:
        yield control
