"""`router.load`: what each app has to bear, for whoever scales apps (docs/observing.md).

    {"id": router, "index": 0, "interval": 5.0, "apps": {APP: {"rate": 12.4, "errors": 0.0, "in_flight": 3,
     "instances": 2, "ejected": 0, "p50_ms": 2.1, "p99_ms": 8.7}}}

Rates are requests a second over the last ten seconds. Every router tells of its own requests only: a reader adds up.
Apps without a request in that time and without one in flight are left out. Big tables go out in several messages, each
below what a NATS server takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from router.observe import histogram
from router.observe.apps import Apps

SUBJECT = "router.load"
WINDOW = 10
PER_MESSAGE = 2000
"""Apps in one message: some 300 KB, of the 1 MB that a NATS server takes by default."""

_encode = msgspec.json.encode


def messages(apps: Apps, in_flight: Callable[[int], int], about: dict[str, Any]) -> Iterator[bytes]:
    """The messages of now; `about` are the fields besides `apps`. There is always one."""
    second = apps.second
    gathered: dict[str, dict[str, Any]] = {}
    sent = False
    for app in apps.all():
        specs = apps.directory.endpoints(app.name)
        flying = sum(map(in_flight, specs.values()))
        rate = app.rate(second, WINDOW)
        if not rate and not flying:
            continue
        counts = histogram.of_kind(app.cells(second, WINDOW), histogram.TOTAL)
        gathered[app.name] = {
            "rate": rate,
            "errors": app.error_rate(second, WINDOW),
            "in_flight": flying,
            "instances": len(specs),
            "ejected": sum(apps.state(spec, app.endpoints.get(spec.address))[0] != "in" for spec in specs),
            "p50_ms": round(histogram.percentile(counts, 0.5) * 1000, 3),
            "p99_ms": round(histogram.percentile(counts, 0.99) * 1000, 3),
        }
        if len(gathered) >= PER_MESSAGE:
            yield _encode({**about, "apps": gathered})
            gathered, sent = {}, True
    if gathered or not sent:
        yield _encode({**about, "apps": gathered})
