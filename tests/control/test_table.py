"""Tables that come in bulk: what is left for later changes nothing of what anybody sees, whatever happens meanwhile."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from router.control.history import History
from router.control.merging import Route, merge
from router.control.registry import Registry
from router.control.table import RegistrySettings
from router.messages import EndpointSpec, TableOp
from tests.support.table import contents, table
from tests.support.wire import RecordingLog

HOSTS = ("a.com", "a.com/path", "b.com", "*.c.com")
keys, ports = st.sampled_from(HOSTS), st.integers(1, 4)
happening = st.one_of(
    st.tuples(st.just("merge"), st.lists(st.tuples(keys, ports, st.booleans(), st.floats(0, 130)), max_size=6)),
    st.tuples(st.just("register"), keys, ports),
    st.tuples(st.just("unregister"), keys, ports),
    st.tuples(st.just("prune"), st.floats(0, 100)),
)


class Side:
    """A registry with a worker's table, which does what is left for later at once or never."""

    def __init__(self, at_once: bool) -> None:
        self.at_once = at_once
        self.now = 1000.0
        self.worker = table()
        self.registry = Registry(
            RegistrySettings(),
            self.worker.apply,
            RecordingLog(),
            capacity=64,
            clock=lambda: self.now,
            history=History(lambda: self.now),
        )

    def happens(self, kind: str, *about: object) -> None:
        match kind, about:
            case "merge", [list(told)]:
                routes = [
                    Route(key, "/", None, [(EndpointSpec("10.0.0.1", port, tls=tls, app=key), self.now - age)])
                    for key, port, tls, age in told
                ]
                ops: list[TableOp] = []
                merge(self.registry, routes, 0.0, ops)
                self.registry.sink(ops)
            case "register", [str(key), int(port)]:
                self.registry.register(EndpointSpec("10.0.0.1", port), [key])
            case "unregister", [str(key), int(port)]:
                self.registry.unregister("10.0.0.1", port, [key])
            case "prune", [float(seconds)]:
                self.now += seconds
                self.registry.prune()
        if self.at_once:
            for _ in self.registry.settling():
                pass

    def seen(self) -> tuple[object, ...]:
        """What anybody may ask for."""
        registry = self.registry
        hosts = {host: registry.routes_of(host) for host in registry.hosts}
        lives: dict[tuple[str, str], list[tuple[float, str, str]]] = {}  # in one pass of pruning any may come first
        for event in registry.history.of(""):
            lives.setdefault((event.route, event.address), []).append((event.when, event.what, event.why))
        return hosts, registry.digest.pack(), lives, registry.pruned, contents(self.worker)


@settings(max_examples=200, deadline=None)
@given(st.lists(happening, max_size=20))
def test_what_is_left_for_later_is_there_when_it_is_asked_for(events: list[tuple[str, object]]) -> None:
    prompt, late = Side(at_once=True), Side(at_once=False)
    for event in events:
        prompt.happens(*event)
        late.happens(*event)
    assert late.seen() == prompt.seen()
    assert contents(late.worker) == contents(table(late.registry.snapshot()))
    assert len(list(late.registry.settling())) <= len(events)
    assert late.seen() == prompt.seen()
