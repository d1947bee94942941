"""The strategy objects of a worker's pools: made by name, and round robin wherever one can't be had or breaks.

A strategy may be a plug-in, so whatever it raises is told once and costs its pool nothing but the strategy.
"""

from __future__ import annotations

import msgspec

from router.balance.round_robin import RoundRobin
from router.balance.strategy import Strategy, StrategyError, StrategyMaker, load_strategy
from router.messages import NO_OPTIONS, RouteOptions, WorkerSettings
from router.observe.log import Log
from router.table.pool import Pool


class Strategies:
    """What makes them, by the settings in force."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._makers: dict[str, StrategyMaker] = {}
        self._broken: set[str] = set()
        self._settings = WorkerSettings()

    def configure(self, settings: WorkerSettings) -> None:
        """Other settings, for pools that come from now on."""
        self._settings = settings
        self._makers.clear()
        self._broken.clear()

    def make(self, name: str, options: RouteOptions) -> Strategy:
        """A strategy object for one pool. A strategy that can't be had is logged once, and round robin stands in."""
        found = self._makers.get(name)
        if found is None:
            found = self._makers[name] = self._load(name)
        try:
            return found(self._completed(options), self._default)
        except Exception as error:
            self._broke(name, error)
            return RoundRobin()

    def eject(self, pool: Pool, error: Exception) -> None:
        """The pool's strategy raised `error` (a broken plug-in): it loses the pool to round robin."""
        self._broke(pool.algorithm, error)
        pool.use(RoundRobin())

    def _completed(self, options: RouteOptions) -> RouteOptions:
        """A route's options, and the router's where they say nothing. `hash` takes its own only (contract §4.8)."""
        defaults = self._settings.balancing_options
        if options is NO_OPTIONS:
            return defaults
        if options.load_balancing == "hash":
            return options
        return msgspec.structs.replace(
            options,
            hash_key=options.hash_key or defaults.hash_key,
            hash_balance=options.hash_balance or defaults.hash_balance,
        )

    def _default(self) -> Strategy:
        """A strategy of the router's default kind, for one that can't pick for every request."""
        return self.make(self._settings.balancing_algorithm, NO_OPTIONS)

    def _load(self, name: str) -> StrategyMaker:
        try:
            return load_strategy(name, self._settings.strategies.get(name, ""))
        except StrategyError as error:
            if name != "round-robin":
                self._broke(name, error)
            return lambda options, make_default: RoundRobin()

    def _broke(self, name: str, error: Exception) -> None:
        if name not in self._broken:
            self._broken.add(name)
            self._log.error("balancing-strategy-failed", strategy=name, error=str(error), instead="round-robin")
