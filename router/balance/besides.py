"""Another pick than one: the endpoint is barred for the moment, so that any strategy chooses among the others."""

from __future__ import annotations

from collections.abc import Callable

from router.table.endpoint import Endpoint
from router.table.pool import Pool


def besides(pool: Pool, endpoint: Endpoint, pick: Callable[[], Endpoint | None]) -> Endpoint | None:
    """What `pick` gives without `endpoint`; None when no other is available.

    A strategy that finds nothing may forget the failure marks of its pool, so it is only asked if there is something.
    """
    if not any(other.available for other in pool.endpoints if other is not endpoint):
        return None
    mark, endpoint.failed_at = endpoint.failed_at, endpoint.failed_at or endpoint.loads.now or 1e-9
    try:
        picked = pick()
    finally:
        endpoint.failed_at = mark
    return picked if picked is not endpoint else None
