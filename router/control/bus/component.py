"""What a router says of itself on the bus, besides that it is there (contract §2.1, §11.4, §14).

vcap.component.announce   once, its figures as in `/varz`; `vcap.component.discover` is answered with the same
router.active_apps        now and then, the ids of the apps that had requests since the last time
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from nats.aio.msg import Msg

from router.control.bus.client import Bus
from router.observe.log import Log

_encode = msgspec.json.encode


class Component:
    """The router as a component of the platform; `varz()` gives its figures."""

    def __init__(self, bus: Bus, log: Log, varz: Callable[[], dict[str, Any]]) -> None:
        self._bus = bus
        self._log = log.component("component")
        self._varz = varz
        self._announced = False
        bus.listen("vcap.component.discover", self._discovered)

    def announce(self) -> None:
        """The bus is there: tell it, once in the life of this process."""
        if not self._announced:
            self._announced = True
            self._bus.post("vcap.component.announce", self._figures())

    async def _discovered(self, message: Msg) -> None:
        if message.reply:
            await message.respond(self._figures())
        else:
            self._log.info("discover-without-reply-subject")

    def _figures(self) -> bytes:
        return _encode(self._varz(), order="sorted")


class ActiveApps:
    """Apps with requests since the last `publish`."""

    def __init__(self, post: Callable[[str, bytes], None]) -> None:
        self._post = post
        self._apps: set[str] = set()

    def add(self, apps: Iterable[str]) -> None:
        """These have had requests."""
        self._apps.update(apps)

    def publish(self) -> None:
        """Say so, even if there is none."""
        apps, self._apps = sorted(self._apps), set()
        self._post("router.active_apps", zlib.compress(_encode(apps)))
