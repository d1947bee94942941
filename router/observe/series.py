"""The text of those series of `/metrics` of which there may be 10,000: by app, by endpoint, histograms by source.

The client library would take twenty times as long over them. Here a family is two columns: what stands before the
numbers, which is kept from scrape to scrape, and the numbers, of which one call makes the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate, chain
from typing import Any, NamedTuple

import msgspec

from router.observe import histogram
from router.observe.apps import CLASSES, AppFigures, packed_totals
from router.observe.histograms import Bounded

SHARES = (0.5, 0.9, 0.99)
"""Quantiles of an app's latency."""


class HistogramFamily(NamedTuple):
    """All histograms of one name; `label` tells them apart, "" = there is one."""

    name: str
    help: str
    label: str
    members: list[tuple[str, Bounded]]
    """Value of the label, histogram."""


class Series:
    """What is kept between scrapes. To be used by one thread at a time; text comes by the family."""

    def __init__(self) -> None:
        self._histograms: dict[tuple[str, tuple[float, ...]], _Family] = {}
        """By name and bounds, which are not known before there is a member."""
        self._responses = _Family(
            "router_app_responses_total", "counter", "Responses by app and class.", lambda of: [_class(_app(of[0]), of)]
        )
        self._received, self._sent, self._failed = (
            _Family(f"router_app_{name}_total", "counter", text, lambda app: [b"{%b}" % _app(app)])
            for name, text in (
                ("received_bytes", "Bytes of request bodies by app."),
                ("sent_bytes", "Bytes of response bodies by app."),
                ("failed_attempts", "Attempts that failed, by app."),
            )
        )
        self._latencies = _Family(
            "router_app_latency_seconds",
            "gauge",
            "Latency of the last ten seconds by app.",
            lambda app: [b'{%b,quantile="%g"}' % (_app(app), share) for share in SHARES],
        )
        self._endpoint_responses = _Family(
            "router_endpoint_responses_total",
            "counter",
            "Responses by endpoint and class.",
            lambda of: [_class(_endpoint(of[0]), of)],
        )
        self._endpoint_failed, self._endpoint_ejected = (
            _Family(f"router_endpoint_{name}", kind, text, lambda endpoint: [b"{%b}" % _endpoint(endpoint)])
            for name, kind, text in (
                ("failed_attempts_total", "counter", "Attempts that failed."),
                ("ejected", "gauge", "1 while an endpoint is passed over."),
            )
        )

    def histogram(self, of: HistogramFamily) -> bytes:
        """All lines of one name."""
        bounds = of.members[0][1].bounds if of.members else ()
        key = (of.name, bounds)
        if key not in self._histograms:
            self._histograms[key] = _Family(of.name, "histogram", of.help, _Buckets(of.label, bounds).ends)
        values: list[str] = []
        numbers: list[float] = []
        for value, each in of.members:
            values.append(value)
            numbers += accumulate(each.counts)
            numbers += (numbers[-1], each.total)
        return self._histograms[key].text(values, numbers)

    def apps(self, apps: list[AppFigures], other: AppFigures, second: int, max_endpoints: int) -> tuple[bytes, ...]:
        """All lines of apps and of so many endpoints at most; `other` is shown if it had requests.

        Each app is gone through once, as it lies about in memory. Reports may come in meanwhile, in another thread.
        """
        responses, latencies, endpoint_responses = _Lines(), _Lines(), _Lines()
        names: list[str] = []
        received: list[int] = []
        sent: list[int] = []
        failed: dict[str, int] = {}
        endpoint_failed: dict[EndpointName, int] = {}
        endpoint_ejected: dict[EndpointName, int] = {}
        shown = 0
        for app in (*apps, other) if any(other.classes) else apps:
            name = app.name
            names.append(name)
            responses.classes(name, app.classes)
            received.append(app.bytes_in)
            sent.append(app.bytes_out)
            if app.failures:
                failed[name] = app.failures
            if packed := app.packed(second, 10):
                latencies.members.append(name)
                buckets = histogram.quantiles(packed_totals(packed), SHARES)
                latencies.numbers += [_SECONDS[bucket] for bucket in buckets] or _NO_SECONDS
            if shown < max_endpoints:
                for address, each in list(app.endpoints.items())[: max_endpoints - shown]:
                    shown += 1
                    endpoint = (name, each.spec.instance_index, address)
                    endpoint_responses.classes(endpoint, each.classes)
                    ejected = each.is_out(second)
                    if each.failures:
                        endpoint_failed[endpoint] = each.failures
                    if each.failures or ejected:
                        endpoint_ejected[endpoint] = int(ejected)
        return (
            self._responses.text(responses.members, responses.numbers),
            self._received.text(names, received),
            self._sent.text(names, sent),
            self._failed.text(list(failed), list(failed.values())),
            self._latencies.text(latencies.members, latencies.numbers),
            self._endpoint_responses.text(endpoint_responses.members, endpoint_responses.numbers),
            self._endpoint_failed.text(list(endpoint_failed), list(endpoint_failed.values())),
            self._endpoint_ejected.text(list(endpoint_ejected), list(endpoint_ejected.values())),
        )


class _Lines:
    """Members of a family, and the numbers of all their lines."""

    def __init__(self) -> None:
        self.members: list[Any] = []
        self.numbers: list[float] = []

    def classes(self, whose: Any, counts: list[int]) -> None:
        """The classes of responses that there were."""
        for group, count in zip(_CLASSES, counts, strict=True):
            if count:
                self.members.append((whose, group))
                self.numbers.append(count)


class _Family:
    """The lines of one name. `ends` gives of a member what stands between the name and the number, for each line."""

    def __init__(self, name: str, kind: str, text: str, ends: Callable[[Any], list[bytes]]) -> None:
        self._head = f"# HELP {name} {text}\n# TYPE {name} {kind}".encode()
        self._name = name.encode()
        self._ends = ends
        self._members: list[Any] = []
        self._starts: list[list[bytes]] = []

    def text(self, members: list[Any], numbers: list[Any]) -> bytes:
        """`numbers` are those of all lines of the first member, then of the next."""
        if members != self._members:
            known = dict(zip(self._members, self._starts, strict=True))
            self._starts = [known.get(member) or self._begun(member) for member in members]
            self._members = members
        lines = [b""] * (2 * len(numbers))
        lines[::2] = chain.from_iterable(self._starts)
        lines[1::2] = _encode(numbers)[1:-1].split(b",") if numbers else ()
        return b"".join((self._head, *lines, b"\n"))

    def _begun(self, member: Any) -> list[bytes]:
        return [b"\n%b%b " % (self._name, end) for end in self._ends(member)]


class _Buckets:
    """The lines of a histogram: its buckets, the count, the sum."""

    def __init__(self, label: str, bounds: tuple[float, ...]) -> None:
        self._label = label.encode()
        self._starts = [*(_bound(bound) for bound in bounds), b"+Inf"]

    def ends(self, value: str) -> list[bytes]:
        label = b"%b=%b" % (self._label, _quoted(value)) if self._label else b""
        before, alone = (label + b",", b"{%b}" % label) if label else (b"", b"")
        buckets = [b'_bucket{%ble="%b"}' % (before, start) for start in self._starts]
        return [*buckets, b"_count" + alone, b"_sum" + alone]


def _bound(value: float) -> bytes:
    return (f"{value:g}" if value < 1e6 else str(int(value))).encode()


_SECONDS = [float(f"{histogram.value(bucket):.6g}") for bucket in range(1 << histogram.KIND_SHIFT)]
_CLASSES = [group.encode() for group in CLASSES]
_encode = msgspec.json.encode
_NO_SECONDS = [0.0] * len(SHARES)
EndpointName = tuple[str, str, str]
"""App, instance, address."""


def _class(labels: bytes, of: tuple[Any, bytes]) -> bytes:
    return b'{%b,class="%b"}' % (labels, of[1])


def _app(name: str) -> bytes:
    return b"app=" + _quoted(name)


def _endpoint(name: EndpointName) -> bytes:
    return b"app=%b,instance=%b,backend=%b" % (*map(_quoted, name),)


_SPECIAL = re.compile(r'[\\\n"]').search


def _quoted(value: str) -> bytes:
    if _SPECIAL(value) is not None:
        value = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return b'"%b"' % value.encode("utf-8", "backslashreplace")
