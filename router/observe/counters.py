"""The counters of a worker: plain list slots, totals since its start; control adds the workers up once a second.

A new counter is one member here and one row where it is shown.
"""

from __future__ import annotations

from enum import IntEnum, auto


class Counter(IntEnum):
    """Slots, in the order in which `messages.Stats.counters` carries them."""

    REQUESTS = 0
    """Attempts to backends (contract §11.4 `requests`)."""
    RESPONSES_2XX = auto()
    RESPONSES_3XX = auto()
    RESPONSES_4XX = auto()
    RESPONSES_5XX = auto()
    RESPONSES_XXX = auto()
    """Finished responses of requests that had an endpoint, by class; xxx = any other."""
    BAD_REQUESTS = auto()
    """Router-made errors, rows 1–7 of contract §6."""
    BAD_GATEWAYS = auto()
    """502s of contract §7.3, last row."""
    EXHAUSTED = auto()
    """Every endpoint at its connection limit."""
    UNREADABLE = auto()
    """Requests refused by the parser."""
    BACKEND_HANDSHAKE_FAILED = auto()
    """525s: a backend that speaks no TLS, or refuses the handshake."""
    BACKEND_INVALID_CERT = auto()
    """526s: a backend's certificate that can't be trusted."""
    BACKEND_INVALID_ID = auto()
    """503s: a backend's certificate that carries another name."""
    CLIENT_GONE = auto()
    """Requests whose client left before the response was complete."""
    UPGRADES = auto()
    """Connections that became tunnels (contract §11.5 `websocket_upgrades`)."""
    UPGRADE_FAILURES = auto()
    """Requests for an upgrade that came to nothing."""
    LOG_LINES = auto()
    """Access log lines handed to a writer."""
    LOG_LOST = auto()
    """Access log lines that no writer took."""
    SPANS = auto()
    """Sampled requests handed to control for the export of their spans."""
    SPANS_LOST = auto()
    """Sampled requests that control did not take."""


COUNT = len(Counter)

RESPONSE_CLASSES = [4] * 1000
"""Status → number of its counter, from `RESPONSES_2XX` on."""
for _status in range(200, 600):
    RESPONSE_CLASSES[_status] = _status // 100 - 2
