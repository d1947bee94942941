"""Passive health: what requests meet with at an endpoint decides whether it is used (docs/decisions/0008).

- Nothing is kept of a pool that nobody doubts: a request costs one attribute test (`endpoint.record`). The first
  failure, 5xx or overdue answer puts its pool under watch: every endpoint gets a `Record`, until all has been well.
- Three things count against an endpoint: failed attempts, 5xx answers, and what it owes: requests that wait for their
  response unusually long, or whose client gave up waiting. All but a connection that can't be had are judged against
  the rest of the pool: what all of it does is the app's way, and nobody is ejected.
- An endpoint that is out is tried with one request that may be repeated elsewhere, so no client pays for the trial.
- Judgement never takes more than `max_share` of a pool; if more are out by active checks, all are used (panic).

State is one worker's own: every worker sees enough to judge, and none has to ask. Pure: the time is `loads.now`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from router.messages import Ejection
from router.table.endpoint import Endpoint, Loads
from router.table.pool import Pool

FAILED = "failed"
"""It could not be connected to, or was reset (contract §4.6)."""
EJECTED = "ejected"
"""It does markedly worse than its pool."""
MEMORY = 30.0
"""Seconds without a doubt after which a pool is no longer watched, and earlier ejections are forgotten."""
HALF_LIFE = 5.0
"""Seconds after which what was counted weighs half."""
UNGUARDED = 1.0
"""Seconds that an endpoint waits for a request fit for a trial; then it is simply used again."""
ENOUGH = 3
"""Requests that the rest of a pool must have answered before one is compared with it."""
SLOWER = 3.0
"""How many times the pool's usual wait an answer must be late to count as owed."""

Tell = Callable[[str, Pool, Endpoint, str], None]


class Record:
    """What is held for and against one endpoint."""

    __slots__ = (
        "answers",
        "bad",
        "ejections",
        "gave_up",
        "good",
        "open_at",
        "out",
        "out_at",
        "owed",
        "owes",
        "quiet_since",
        "reason",
        "returned_at",
        "streak",
        "ward",
        "trying",
        "until",
    )

    def __init__(self, now: float) -> None:
        self.good = 0.0
        self.bad = 0.0
        """Attempts that ended well, and badly, of late."""
        self.streak = 0
        """Bad ones since the last good one."""
        self.owed = 0
        """Overdue requests seen in this round of the clock."""
        self.gave_up = 0.0
        """Clients that left while their request was overdue, since the last answer."""
        self.answers = 0
        """Answers in this round."""
        self.quiet_since = now
        """The round after which no answer came."""
        self.out = ""
        """FAILED or EJECTED; empty = it is in."""
        self.owes = False
        """It is out for what it owes."""
        self.reason = ""
        self.out_at = 0.0
        self.until = 0.0
        """When it may be tried."""
        self.open_at = 0.0
        """When it is used again without a trial."""
        self.trying = False
        """A trial is under way."""
        self.ejections = 0
        """In a row, failed trials included."""
        self.returned_at = -MEMORY
        self.ward: Ward | None = None
        """The pool in which it was put out."""


class Ward:
    """A pool under watch."""

    __slots__ = ("doubted_at", "halved_at", "out", "pool", "wait")

    def __init__(self, pool: Pool, now: float) -> None:
        self.pool = pool
        self.doubted_at = now
        self.halved_at = now
        self.out: list[Endpoint] = []
        """Endpoints put out here, to be tried here."""
        self.wait = 0.0
        """Seconds that the pool's responses take to begin, smoothed."""


class Watch:
    """The judge of one worker. `pool_of` finds a pool in the table, `tell` hears of what leaves and comes back."""

    __slots__ = ("_loads", "_pool_of", "_tell", "_wards", "owed_after", "rules")

    def __init__(self, loads: Loads, pool_of: Callable[[str], Pool | None], tell: Tell) -> None:
        self._loads = loads
        self._pool_of = pool_of
        self._tell = tell
        self._wards: dict[Pool, Ward] = {}
        self.configure(Ejection())

    def configure(self, rules: Ejection) -> None:
        """Judge by these rules from now on."""
        self.rules = rules
        self.owed_after = rules.owed_after if rules.enabled else float("inf")
        """Seconds after which an exchange that still waits for its response is to say so (`owed`)."""

    # -------------------------------------------------------- what happens to requests

    def failed(self, pool: Pool, endpoint: Endpoint, reason: str, *, marks: bool, trial: bool) -> None:
        """An attempt came to nothing. `marks`: the endpoint could not be had at all (contract §4.6)."""
        ward = self._ward(pool)
        if ward is None:
            return
        record = self._doubt(ward, endpoint)
        if record.out:
            if trial or self._loads.now >= record.open_at:
                self._try_later(endpoint, record)
            return
        record.bad += 1
        record.streak += 1
        if marks:
            self._put_out(ward, endpoint, record, FAILED, reason)
        elif record.streak == self.rules.consecutive_failures:
            self._judge(ward)

    def answered(self, pool: Pool, endpoint: Endpoint, status: int, began: float, *, trial: bool) -> bool:
        """A response begins; to be told when its status is 500 or more, or the endpoint has a record.

        False: it was a trial and went badly. Nobody shall see this answer, the request is to be repeated elsewhere.
        """
        bad = status >= 500 and status != 501
        record = endpoint.record
        if record is None:
            ward = self._ward(pool) if bad else None
            if ward is None:
                return True
            record = self._doubt(ward, endpoint)
        record.answers += 1
        record.gave_up = 0.0
        if not bad:
            record.good += 1
            record.streak = 0
            if pool.ward is not None:
                pool.ward.wait += (self._loads.now - began - pool.ward.wait) * 0.05
            if record.out and (trial or record.owes or began >= record.out_at):
                self._take_back(pool, endpoint, record)
            return True
        if record.out:
            if trial:
                record.reason = f"answered {status}"
                self._try_later(endpoint, record)
            return not trial
        record.bad += 1
        record.streak += 1
        ward = self._ward(pool)
        if ward is not None:
            ward.doubted_at = self._loads.now
            if record.streak == self.rules.consecutive_failures:
                self._judge(ward)
        return True

    def owed(self, pool: Pool, endpoint: Endpoint, age: float) -> None:
        """A request has waited `age` seconds for its response, more than `owed_after`; told anew in every round."""
        ward = self._ward(pool)
        if ward is not None and age >= ward.wait * SLOWER:
            self._doubt(ward, endpoint).owed += 1

    def gave_up(self, pool: Pool, endpoint: Endpoint, age: float, *, trial: bool) -> None:
        """A client left after it had waited `age` seconds for its response."""
        late = age >= self.owed_after
        if not late and not trial:
            return
        ward = self._ward(pool)
        if ward is None:
            return
        record = self._doubt(ward, endpoint)
        if trial:
            record.trying = False
            if late:
                self._try_later(endpoint, record)
        elif not record.out and age >= ward.wait * SLOWER:
            record.gave_up += 1

    # -------------------------------------------------------- trials

    def trial(self, pool: Pool) -> Endpoint | None:
        """An endpoint of a pool under watch that is due for a trial; the request must be one that may be repeated."""
        ward: Ward | None = pool.ward
        if ward is None or not ward.out:
            return None
        now = self._loads.now
        for endpoint in ward.out:
            record = endpoint.record
            due = record.out and not record.trying and now >= record.until
            if due and not endpoint.unhealthy and not endpoint.overloaded:
                record.trying = True
                return endpoint
        return None

    def outside(self) -> Iterator[Endpoint]:
        """Endpoints that are out of use by what was judged here."""
        for ward in self._wards.values():
            yield from ward.out

    def patience(self, pool: Pool) -> float:
        """Seconds that a trial waits for its response."""
        wait = pool.ward.wait if pool.ward is not None else 0.0
        return float(max(self.owed_after, wait * SLOWER))

    def _try_later(self, endpoint: Endpoint, record: Record) -> None:
        record.trying = False
        record.ejections += 1
        self._set_time(endpoint, record)

    def _set_time(self, endpoint: Endpoint, record: Record) -> None:
        rules = self.rules
        now = self._loads.now
        record.until = now + min(rules.longest, rules.shortest * 2.0 ** min(record.ejections - 1, 16))
        record.open_at = record.until + UNGUARDED
        endpoint.failed_at = now or 1e-9

    # -------------------------------------------------------- judgement

    def check_result(self, pool: Pool, endpoint: Endpoint, reason: str) -> None:
        """What active checks say of an endpoint: why it is unhealthy, or "" when it is well."""
        was, endpoint.unhealthy = endpoint.unhealthy, reason
        if bool(was) == bool(reason):
            return
        if reason:
            ward = self._ward(pool, always=True)
            if ward is not None:
                self._doubt(ward, endpoint)
                self._tell("endpoint-unhealthy", pool, endpoint, reason)
                self._bar(ward)
            return
        record = endpoint.record
        if record is None or not record.out:
            endpoint.failed_at = 0.0
            self._warm_up(endpoint)
        self._tell("endpoint-healthy", pool, endpoint, "")

    def tick(self, now: float) -> None:
        """The end of a round of the clock, all exchanges having said what they are owed."""
        for ward in list(self._wards.values()):
            pool = ward.pool
            if self._pool_of(pool.key) is not pool:
                self._move(ward)
                continue
            self._judge(ward)
            halve = now - ward.halved_at >= HALF_LIFE
            if halve:
                ward.halved_at = now
            doubted = False
            for endpoint in pool.endpoints:
                record = endpoint.record
                if record is None:
                    record = endpoint.record = Record(now)
                if record.answers:
                    record.answers = 0
                    record.quiet_since = now
                record.owed = 0
                if halve:
                    record.good /= 2
                    record.bad /= 2
                    record.gave_up /= 2
                doubted = doubted or bool(record.out or endpoint.unhealthy)
            if doubted:
                ward.doubted_at = now
                self._bar(ward)
            elif now - ward.doubted_at >= MEMORY:
                self._release(ward)

    def _judge(self, ward: Ward) -> None:
        rules = self.rules
        if not rules.enabled:
            return
        now = self._loads.now
        pool = ward.pool
        inside: list[tuple[Endpoint, Record]] = []
        outside: list[Endpoint] = []
        good = bad = debt = 0.0
        for endpoint in pool.endpoints:
            record = endpoint.record
            if record is None:
                continue
            if record.out:
                if record.ward is ward:
                    outside.append(endpoint)
                continue
            inside.append((endpoint, record))
            good += record.good
            bad += record.bad
            debt += record.owed + record.gave_up
        ward.out = outside
        if good + bad >= ENOUGH and bad > good:
            # The app itself is in trouble: who was put out for its errors is no worse than the rest.
            for endpoint in outside:
                if endpoint.record.out == EJECTED and not endpoint.record.owes:
                    self._take_back(pool, endpoint, endpoint.record)
        room = int(len(pool.endpoints) * rules.max_share) - (len(pool.endpoints) - len(inside))
        for endpoint, record in sorted(inside, key=_worst):
            if room <= 0 or len(inside) < 2:
                return
            owes = record.owed + record.gave_up
            rest_good, rest_bad = good - record.good, bad - record.bad
            if (
                owes >= rules.owed_requests
                and now - record.quiet_since >= rules.owed_after / 2
                and owes > SLOWER * (debt - owes) / (len(inside) - 1)
            ):
                reason = f"{owes:.0f} requests wait for an answer or were given up, the rest of the pool answers"
                record.owes = True
            elif (share := _too_many_failures(rules, record, rest_good, rest_bad)) > 0:
                reason = f"{share:.0%} of its requests fail, {rest_bad / (rest_good + rest_bad):.0%} at its fellows"
                record.owes = False
            else:
                continue
            room -= 1
            good, bad, debt = rest_good, rest_bad, debt - owes
            self._put_out(ward, endpoint, record, EJECTED, reason)

    def _put_out(self, ward: Ward, endpoint: Endpoint, record: Record, out: str, reason: str) -> None:
        now = self._loads.now
        record.ejections = record.ejections + 1 if now - record.returned_at < MEMORY else 1
        record.out = out
        record.reason = reason
        record.out_at = now
        record.ward = ward
        record.trying = False
        if out == FAILED:
            record.owes = False
        ward.out.append(endpoint)
        self._set_time(endpoint, record)
        if out == EJECTED:
            self._tell("endpoint-ejected", ward.pool, endpoint, reason)

    def _take_back(self, pool: Pool, endpoint: Endpoint, record: Record) -> None:
        now = self._loads.now
        record.out = ""
        record.reason = ""
        record.trying = record.owes = False
        record.good = record.bad = record.gave_up = 0.0
        record.streak = record.owed = 0
        record.returned_at = record.quiet_since = now
        if record.ward is not None:
            record.ward.out = [other for other in record.ward.out if other is not endpoint]
        if not endpoint.unhealthy:
            endpoint.failed_at = 0.0
        self._warm_up(endpoint)
        self._tell("endpoint-returned", pool, endpoint, "")

    def _warm_up(self, endpoint: Endpoint) -> None:
        if self._loads.slow_start:
            endpoint.warm_since = self._loads.now

    def _bar(self, ward: Ward) -> None:
        """Bar again who is out and was let in when nothing else was left; or, when too many are, let them all in."""
        endpoints = ward.pool.endpoints
        judged = [e for e in endpoints if e.unhealthy or (e.record is not None and e.record.out == EJECTED)]
        panic = len(judged) > len(endpoints) * self.rules.max_share
        now = self._loads.now or 1e-9
        for endpoint in endpoints:
            record = endpoint.record
            if record is not None and record.out == FAILED:
                endpoint.failed_at = endpoint.failed_at or now
        for endpoint in judged:
            if endpoint.record is None or endpoint.record.out != FAILED:
                endpoint.failed_at = 0.0 if panic else endpoint.failed_at or now

    # -------------------------------------------------------- pools under watch

    def _ward(self, pool: Pool, *, always: bool = False) -> Ward | None:
        """The pool's ward; a pool made for one request only (contract §3.5) has that of the real one."""
        if not self.rules.enabled and not always:
            return None
        real = self._pool_of(pool.key)
        if real is None:
            return None
        ward: Ward | None = real.ward
        if ward is None or ward.pool is not real:
            ward = real.ward = self._wards[real] = Ward(real, self._loads.now)
        return ward

    def _doubt(self, ward: Ward, endpoint: Endpoint) -> Record:
        now = ward.doubted_at = self._loads.now
        record: Record | None = endpoint.record
        if record is None:
            for each in ward.pool.endpoints:
                if each.record is None:
                    each.record = Record(now)
            record = endpoint.record
            if record is None:  # it has left the pool meanwhile
                record = endpoint.record = Record(now)
        return record

    def _release(self, ward: Ward) -> None:
        del self._wards[ward.pool]
        ward.pool.ward = None
        for endpoint in ward.pool.endpoints:
            endpoint.record = None

    def _move(self, ward: Ward) -> None:
        """The pool is gone; one of a new table may stand in its place, with the same records."""
        del self._wards[ward.pool]
        real = self._pool_of(ward.pool.key)
        new = self._ward(real, always=True) if real is not None else None
        if real is None or new is None:
            return
        for endpoint in real.endpoints:
            if endpoint.record is not None and endpoint.record.ward is ward:
                endpoint.record.ward = new


def _worst(entry: tuple[Endpoint, Record]) -> float:
    record = entry[1]
    return -(record.bad + record.owed + record.gave_up)


def _too_many_failures(rules: Ejection, record: Record, rest_good: float, rest_bad: float) -> float:
    """The share of an endpoint's requests that fail, if that is too much next to the rest of its pool; else 0."""
    total, rest = record.good + record.bad, rest_good + rest_bad
    if rest < ENOUGH or record.bad < 1:
        return 0.0
    usual = rest_bad / rest
    if record.streak >= rules.consecutive_failures:
        share = 1.0
    elif record.bad >= rules.consecutive_failures:
        share = record.bad / total
    else:
        return 0.0
    return share if share > 2 * usual + rules.failure_margin else 0.0
