"""Active health checks, for the routes that ask for them (`backends.health_checks`).

- Follows the table by its operations: what comes is checked, what goes is not any more. An endpoint in several routes
  with the same check is checked once.
- An endpoint is well until shown otherwise. Workers hear only of changes (`SetHealth`), and decide what to make of it:
  when too much of a pool is unfit, all of it is used.
- Checks are spread: the first comes at a random time within the interval, the others with a tenth of jitter.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from router.config.backends import HealthCheck
from router.messages import (
    DropEndpoint,
    DropPool,
    DropRoute,
    EndpointSpec,
    NewRoute,
    PutEndpoint,
    PutRoute,
    SetHealth,
    TableOp,
    unpack,
)
from router.observe.log import Log
from router.table.uri import host_of, route_key

if TYPE_CHECKING:
    import aiohttp

AT_ONCE = 100
"""Checks under way at once, at most."""
JITTER = 0.1
USER_AGENT = "router-health-check"


class Target:
    """An endpoint under one check, and the routes for which it is."""

    __slots__ = ("check", "good", "keys", "reason", "spec", "streak", "task")

    def __init__(self, spec: EndpointSpec, check: HealthCheck) -> None:
        self.spec = spec
        self.check = check
        self.keys: set[str] = set()
        self.reason = ""
        """Why it is unfit, as workers know it; empty = it is well."""
        self.good = True
        self.streak = 0
        """Results in a row like the last one."""
        self.task: asyncio.Task[None] | None = None

    def result(self, reason: str) -> bool:
        """Take the result of a check; True when the endpoint's state changes by it."""
        good = not reason
        self.streak = self.streak + 1 if good is self.good else 1
        self.good = good
        needed = self.check.healthy_after if good else self.check.unhealthy_after
        if self.streak < needed or bool(self.reason) is not good:
            return False
        self.reason = reason
        return True


class HealthChecks:
    """Checks what the table holds. `publish` takes operations for all workers."""

    def __init__(self, checks: list[HealthCheck], publish: Callable[[list[SetHealth]], None], log: Log) -> None:
        self._checks = checks
        self._publish = publish
        self._log = log
        self._specs: dict[int, bytes] = {}  # packed
        self._targets: dict[tuple[int, int], Target] = {}  # by endpoint id and number of the check
        self._of_pool: dict[str, set[tuple[int, int]]] = {}
        self._known: dict[tuple[str, int], tuple[HealthCheck, str]] = {}  # while reconfiguring: what is unfit, by whom
        self._places = asyncio.Semaphore(AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    async def stop(self) -> None:
        """End all checks."""
        tasks = [target.task for target in self._targets.values() if target.task is not None]
        self._targets.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def standing(self) -> Iterator[SetHealth]:
        """What a worker must know that has just got the table."""
        for (id, _), target in self._targets.items():
            if target.reason:
                for key in target.keys:
                    yield SetHealth(key, id, target.reason)

    def reconfigure(self, checks: list[HealthCheck], table: Iterable[TableOp]) -> None:
        """Other checks are in force. `table` is what they may be for, as operations that make it from nothing.

        What is known of an endpoint under a check that stays, stays known; one not checked any more counts as well.
        """
        if checks == self._checks:
            return
        for target in self._targets.values():
            if target.task is not None:
                target.task.cancel()
        before = {
            (key, id): (target.check, target.reason)
            for (id, _), target in self._targets.items()
            for key in target.keys
            if target.reason
        }
        self._checks = checks
        self._specs.clear()
        self._targets.clear()
        self._of_pool.clear()
        self._known = before
        self.apply(table)
        self._known = {}
        standing = {(op.key, op.id) for op in self.standing()}
        self._publish([SetHealth(key, id, "") for key, id in before if (key, id) not in standing])

    # -------------------------------------------------------- the table

    def apply(self, ops: Iterable[TableOp]) -> None:
        """Follow the table."""
        if not self._checks:
            return
        for op in ops:
            match op:
                case PutEndpoint():
                    self._specs[op.id] = op.packed
                case NewRoute():
                    for endpoint in op.endpoints:
                        self._specs[endpoint.id] = endpoint.packed
                        self._put(op.pool.key, endpoint.id, "")
                case DropEndpoint():
                    self._specs.pop(op.id, None)
                case PutRoute():
                    reason = self._drop(op.key, op.replaces) if op.replaces else ""
                    self._put(op.key, op.id, reason)
                case DropRoute():
                    self._drop(op.key, op.id)
                case DropPool():
                    for id, _ in list(self._of_pool.get(op.key, ())):
                        self._drop(op.key, id)

    def _put(self, key: str, id: int, reason: str) -> None:
        """`reason` is why the endpoint is unfit in whose place it comes: it has the same address."""
        number = next((n for n, check in enumerate(self._checks) if _names(check, key)), -1)
        packed = self._specs.get(id)
        if number < 0 or packed is None:
            return
        target = self._targets.get((id, number))
        if target is None:
            if (known := self._known.get((key, id))) is not None and known[0] == self._checks[number]:
                reason = known[1]
            target = self._targets[id, number] = Target(unpack(packed), self._checks[number])
            target.reason, target.good = reason, not reason
            target.task = asyncio.get_running_loop().create_task(self._watch(id, target))
        target.keys.add(key)
        self._of_pool.setdefault(key, set()).add((id, number))
        if target.reason:
            self._publish([SetHealth(key, id, target.reason)])

    def _drop(self, key: str, id: int) -> str:
        reason = ""
        places = self._of_pool.get(key, set())
        for place in [place for place in places if place[0] == id]:
            places.discard(place)
            target = self._targets[place]
            reason = target.reason
            target.keys.discard(key)
            if not target.keys:
                del self._targets[place]
                if target.task is not None:
                    target.task.cancel()
        if not places:
            self._of_pool.pop(key, None)
        return reason

    # -------------------------------------------------------- checking

    async def _watch(self, id: int, target: Target) -> None:
        check = target.check
        await asyncio.sleep(random.random() * check.interval)
        while True:
            async with self._places:
                reason = await self._ask(target)
            if target.result(reason):
                self._log.debug("health-check", backend=target.spec.address, healthy=not reason, reason=reason)
                self._publish([SetHealth(key, id, reason) for key in sorted(target.keys)])
            await asyncio.sleep(check.interval * random.uniform(1 - JITTER, 1 + JITTER))

    async def _ask(self, target: Target) -> str:
        """Check once: why it failed, or "" when all is well."""
        check, spec = target.check, target.spec
        try:
            async with asyncio.timeout(check.timeout):
                # An endpoint that speaks HTTP/2 without TLS understands no GET of ours.
                if check.type == "tcp" or (spec.protocol == "http2" and not spec.tls):
                    _, writer = await asyncio.open_connection(spec.host, spec.port)
                    writer.transport.abort()
                    return ""
                return await self._get(check, spec, min(target.keys))
        except TimeoutError:
            return f"no answer to a check within {check.timeout:g} s"
        except (OSError, ValueError) as error:
            return _failure(error)

    async def _get(self, check: HealthCheck, spec: EndpointSpec, key: str) -> str:
        import aiohttp  # only where a check needs it: it takes a fifth of a second

        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
        host = host_of(key)
        headers = {"User-Agent": USER_AGENT, "Host": spec.address if "*" in host else host}
        name = f"[{spec.host}]" if ":" in spec.host else spec.host
        url = f"{'https' if spec.tls else 'http'}://{name}:{spec.port}{check.path}"
        # Whether the certificate is good is for requests to find out: that has rules of its own.
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False, ssl=False) as answer:
                return "" if 200 <= answer.status < 400 else f"a check was answered with {answer.status}"
        except aiohttp.ClientError as error:
            return _failure(error)


def _failure(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return f"check failed: {os.strerror(number).lower() if number and number > 0 else error}"


def _names(check: HealthCheck, key: str) -> bool:
    """The check is for the route of this key."""
    if not check.routes:
        return True
    host = host_of(key)
    for route in check.routes:
        wanted = route_key(route)
        if wanted == key or (wanted.startswith("*.") and "/" not in wanted and host.endswith(wanted[1:])):
            return True
    return False
