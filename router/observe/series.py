"""The text of those series of `/metrics` of which there may be 10,000: by app, by endpoint, histograms by source.

The client library would take twenty times as long over them. Here a family is a template, which is kept from scrape to
scrape, and the numbers, which one call puts in.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from router.observe import histogram
from router.observe.apps import CLASSES, AppFigures, packed_quantiles
from router.observe.histograms import Bounded

SHARES = (0.5, 0.9, 0.99)
"""Quantiles of an app's latency."""


class HistogramFamily(NamedTuple):
    """All histograms of one name; the values of `label` tell them apart, "" = there is one."""

    name: str
    help: str
    label: str
    made: Bounded


class Series:
    """What is kept between scrapes. To be used by one thread at a time; text comes by the family."""

    def __init__(self) -> None:
        self._histograms: dict[tuple[str, tuple[float, ...]], _Family] = {}
        """By name and bounds."""
        self._responses = _Family(
            "router_app_responses_total", "counter", "Responses by app and class.", lambda of: _class(_app(of[0]), of)
        )
        self._received, self._sent, self._failed = (
            _Family(f"router_app_{name}_total", "counter", text, lambda app: b"{%b} %%d" % _app(app))
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
            lambda app: b"\n".join([b'{%b,quantile="%g"} %%b' % (_app(app), share) for share in SHARES]),
        )
        self._endpoint_responses = _Family(
            "router_endpoint_responses_total",
            "counter",
            "Responses by endpoint and class.",
            lambda of: _class(_endpoint(of[0]), of),
        )
        self._endpoint_failed, self._endpoint_ejected = (
            _Family(f"router_endpoint_{name}", kind, text, lambda endpoint: b"{%b} %%d" % _endpoint(endpoint))
            for name, kind, text in (
                ("failed_attempts_total", "counter", "Attempts that failed."),
                ("ejected", "gauge", "1 while an endpoint is passed over."),
            )
        )

    def histogram(self, of: HistogramFamily) -> bytes:
        """All lines of one name."""
        made = of.made
        if (of.name, made.bounds) not in self._histograms:
            ends = _Buckets(of.label, made.bounds).ends
            self._histograms[of.name, made.bounds] = _Family(of.name, "histogram", of.help, ends)
        values = list(made.members)
        count, width = len(values), len(made.columns) + 2
        numbers: list[int | bytes] = [0] * (count * width)
        below = [0] * count
        for place, column in enumerate(made.columns):
            numbers[place::width] = below = list(map(operator.add, below, column))
        numbers[width - 2 :: width] = below
        numbers[width - 1 :: width] = [b"%a" % total for total in made.totals[:count]]
        return self._histograms[of.name, made.bounds].text(values, numbers)

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
                latencies.numbers += [_SECONDS[bucket] for bucket in packed_quantiles(packed, SHARES)] or _NO_SECONDS
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
        self.numbers: list[Any] = []

    def classes(self, whose: Any, counts: list[int]) -> None:
        """The classes of responses that there were; mostly it is one."""
        if counts[0] == sum(counts) > 0:
            self.members.append((whose, _CLASSES[0]))
            self.numbers.append(counts[0])
            return
        for group, count in zip(_CLASSES, counts, strict=True):
            if count:
                self.members.append((whose, group))
                self.numbers.append(count)


class _Family:
    """The lines of one name. `ends` gives what follows it on each line of a member, with a place for the number."""

    def __init__(self, name: str, kind: str, text: str, ends: Callable[[Any], bytes]) -> None:
        self._head = f"# HELP {name} {text}\n# TYPE {name} {kind}\n".encode()
        self._name = name.encode()
        self._next = b"\n" + self._name
        self._ends = ends
        self._members: list[Any] = []
        self._lines: list[bytes] = []
        """Of each member."""
        self._template = self._head

    def text(self, members: list[Any], numbers: list[Any]) -> bytes:
        """`numbers` are those of all lines of the first member, then of the next."""
        if members != self._members:
            known = dict(zip(self._members, self._lines, strict=True))
            self._lines = [known.get(member) or self._begun(member) for member in members]
            self._members = members
            self._template = b"".join((self._head, *self._lines))
        return self._template % tuple(numbers)

    def _begun(self, member: Any) -> bytes:
        return self._name + self._ends(member).replace(b"\n", self._next) + b"\n"


class _Buckets:
    """The lines of a histogram: its buckets, the count, the sum."""

    def __init__(self, label: str, bounds: tuple[float, ...]) -> None:
        named = label.encode() + b"=%b" if label else b""
        before, alone = (named + b",", b"{" + named + b"}") if named else (b"", b"")
        starts = (*(_bound(bound) for bound in bounds), b"+Inf")
        lines = [b"_bucket{" + before + b'le="' + start + b'"} %%d' for start in starts]
        self._text = b"\n".join((*lines, b"_count" + alone + b" %%d", b"_sum" + alone + b" %%b"))
        self._labels = len(lines) + 2 if label else 0

    def ends(self, value: str) -> bytes:
        return self._text % ((_quoted(value),) * self._labels)


def _bound(value: float) -> bytes:
    return (f"{value:g}" if value < 1e6 else str(int(value))).encode()


_SECONDS = [f"{histogram.value(bucket):.6g}".encode() for bucket in range(1 << histogram.KIND_SHIFT)]
_CLASSES = [group.encode() for group in CLASSES]
_NO_SECONDS = [b"0.0"] * len(SHARES)
EndpointName = tuple[str, str, str]
"""App, instance, address."""


def _class(labels: bytes, of: tuple[Any, bytes]) -> bytes:
    return b'{%b,class="%b"} %%d' % (labels, of[1])


def _app(name: str) -> bytes:
    return b"app=" + _quoted(name)


def _endpoint(name: EndpointName) -> bytes:
    return b"app=%b,instance=%b,backend=%b" % (*map(_quoted, name),)


_SPECIAL = re.compile(r'[\\\n"%]').search


def _quoted(value: str) -> bytes:
    """As a label's value in a template."""
    if _SPECIAL(value) is not None:
        value = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"').replace("%", "%%")
    return b'"%b"' % value.encode("utf-8", "backslashreplace")
