"""First fit: fill one instance before the next is used, so that spare ones can be switched off."""

from router.balance.strategy import Request
from router.messages import RouteOptions
from router.table.endpoint import Endpoint
from router.table.pool import Pool


class FirstFit:
    interface_version = 1

    def __init__(self, options: RouteOptions) -> None:
        self.full_at = options.max_conns or 10

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        able = [endpoint for endpoint in pool.endpoints if endpoint.available]
        for endpoint in able:
            if endpoint.in_flight < self.full_at:
                return endpoint
        return min(able, key=lambda endpoint: endpoint.in_flight, default=None)
