"""The text of those series of `/metrics` of which there may be 10,000: by app, by endpoint, histograms by source.

The client library would take twenty times as long over them. Here a family is two columns: what stands before the
numbers, which is kept from scrape to scrape, and the numbers, of which one call makes the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain
from typing import Any, NamedTuple

import msgspec

from router.observe import histogram
from router.observe.apps import CLASSES, packed_totals

SHARES = (0.5, 0.9, 0.99)
"""Quantiles of an app's latency."""


class AppRow(msgspec.Struct, gc=False):
    name: str
    classes: list[int]
    bytes_in: int
    bytes_out: int
    failures: int


class EndpointRow(msgspec.Struct, gc=False):
    name: tuple[str, str, str]
    """App, instance, address."""
    classes: list[int]
    failures: int
    ejected: bool


class HistogramFamily(NamedTuple):
    """All members of one name; `label` tells them apart, "" = there is one."""

    name: str
    help: str
    label: str
    bounds: tuple[float, ...]
    values: list[str]
    """Of the label."""
    counts: list[list[int]]
    totals: list[float]


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

    def histograms(self, taken: list[HistogramFamily]) -> Iterator[bytes]:
        for each in taken:
            key = (each.name, each.bounds)
            if key not in self._histograms:
                ends = _Buckets(each.label, each.bounds).ends
                self._histograms[key] = _Family(each.name, "histogram", each.help, ends)
            numbers: list[float] = []
            for counts, total in zip(each.counts, each.totals, strict=True):
                numbers += accumulate(counts)
                numbers += (numbers[-1], total)
            yield self._histograms[key].text(each.values, numbers)

    def apps(self, rows: list[AppRow], latencies: list[tuple[str, list[bytes]]]) -> Iterator[bytes]:
        """`latencies`: packed cells of apps that had requests in the last ten seconds."""
        names = [row.name for row in rows]
        yield self._responses.text(*_by_class(rows))
        yield self._received.text(names, [row.bytes_in for row in rows])
        yield self._sent.text(names, [row.bytes_out for row in rows])
        failed = [row for row in rows if row.failures]
        yield self._failed.text([row.name for row in failed], [row.failures for row in failed])
        seconds: list[float] = []
        for _, packed in latencies:
            buckets = histogram.quantiles(packed_totals(packed), SHARES)
            seconds += [_SECONDS[bucket] for bucket in buckets] or [0.0] * len(SHARES)
        yield self._latencies.text([app for app, _ in latencies], seconds)

    def endpoints(self, rows: list[EndpointRow]) -> Iterator[bytes]:
        yield self._endpoint_responses.text(*_by_class(rows))
        failed = [row for row in rows if row.failures]
        yield self._endpoint_failed.text([row.name for row in failed], [row.failures for row in failed])
        ailing = [row for row in rows if row.failures or row.ejected]
        yield self._endpoint_ejected.text([row.name for row in ailing], [int(row.ejected) for row in ailing])


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
Of = tuple[Any, bytes]
"""Whose responses, of which class."""


def _by_class(rows: Iterable[AppRow | EndpointRow]) -> tuple[list[Of], list[int]]:
    """The classes of responses that there were, and how many."""
    members: list[Of] = []
    numbers: list[int] = []
    for row in rows:
        for group, count in zip(_CLASSES, row.classes, strict=True):
            if count:
                members.append((row.name, group))
                numbers.append(count)
    return members, numbers


def _class(labels: bytes, of: Of) -> bytes:
    return b'{%b,class="%b"}' % (labels, of[1])


def _app(name: str) -> bytes:
    return b"app=" + _quoted(name)


def _endpoint(name: tuple[str, str, str]) -> bytes:
    return b"app=%b,instance=%b,backend=%b" % (*map(_quoted, name),)


_SPECIAL = re.compile(r'[\\\n"]').search


def _quoted(value: str) -> bytes:
    if _SPECIAL(value) is not None:
        value = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return b'"%b"' % value.encode("utf-8", "backslashreplace")
