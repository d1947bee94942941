"""The two files the router reads: today's gorouter.yml and the router.yml of 2011-2013.

Both are one language here: names and spellings of the older file are translated, key by key, before anything
is checked. The dialect of a file is decided by the presence of a key only the older one has. Contract 13.2,
17.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

Dialect = Literal["gorouter", "classic"]

RENAMED: dict[str, str] = {
    "pid": "pid_file",
    "log_level": "logging.level",
    "status.password": "status.pass",
    "max_header_bytes": "max_request_header_bytes",  # gorouter until October 2024
}
"""Older name -> name in `model.py`. Both may be used, but not together."""

CLASSIC_ONLY: frozenset[str] = frozenset(
    {
        "mbus",
        "sock",
        "pid",
        "log_level",
        "log_file",
        "log_rotation_interval",
        "session_key",
        "404_redirect",
        "enable_nonprod_apps",
        "flush_apps_interval",
        "status.password",
        "status.expose_all_apps",
    }
)
"""Keys that no gorouter.yml has. `inet`, `local_route` and the like are ours as well and decide nothing."""

SPELLINGS: dict[str, dict[str, str]] = {
    "logging.level": {
        "off": "fatal",
        "warning": "warn",
        "all": "debug",
        "debug1": "debug",
        "debug2": "debug",
    },
    "logging.format.timestamp": {"deprecated": "unix-epoch"},  # the official job's word
}
"""Key -> older spelling -> value in `model.py`."""

ACTIVE_APPS: dict[str, str] = {
    "enable_nonprod_apps": "`publish_active_apps_interval`: true = every `flush_apps_interval`",
    "flush_apps_interval": "`publish_active_apps_interval` if `enable_nonprod_apps` is true; seconds, 30 unless given",
}
"""Two older keys that are one today, and what they mean together."""
FLUSH_APPS = 30

CLASSIC_DEFAULTS: dict[str, object] = {"status.enable_deprecated_varz_healthz_endpoints": True}
"""What the older router always did: be a component of the platform (contract §14)."""

MBUS_EXPECTED = "nats://[USER:PASSWORD@]HOST[:PORT]"


def respell(path: str, value: object) -> object:
    """`value` in today's spelling; log levels in any case, as the 2011 router took them."""
    if not isinstance(value, str) or path not in SPELLINGS:
        return value
    lower = value.lower()
    return SPELLINGS[path].get(lower, lower)


def active_apps_interval(enabled: object, seconds: object) -> str | None:
    """Today's duration for the values of `ACTIVE_APPS`, None = never. ValueError names the key and what it takes."""
    if not isinstance(enabled, bool | None):
        raise ValueError("enable_nonprod_apps", "true or false")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | None) or (seconds or 1) <= 0:
        raise ValueError("flush_apps_interval", "a number of seconds, more than 0")
    return f"{seconds or FLUSH_APPS}s" if enabled else None


@dataclass(frozen=True, slots=True)
class Bus:
    """What `mbus` says, in the terms of the `nats` section."""

    hosts: list[dict[str, str | int]]
    user: str
    password: str
    tls: bool


def parse_mbus(value: object) -> Bus:
    """Servers and credentials in one URL, in a comma separated list of them, or in a list.

    ValueError says what is expected, and never shows what was given: it may hold a password.
    """
    urls = value.split(",") if isinstance(value, str) else value
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise ValueError(f"{MBUS_EXPECTED}, or a list of these")
    hosts: list[dict[str, str | int]] = []
    credentials: set[tuple[str, str]] = set()
    schemes: set[str] = set()
    for url in urls:
        scheme, host, user, password = _parse_url(url.strip())
        schemes.add(scheme)
        hosts.append(host)
        if user or password:
            credentials.add((user, password))
    if len(schemes) > 1:
        raise ValueError("either nats:// or tls:// for all servers")
    if len(credentials) > 1:
        raise ValueError("the same user and password for all servers")
    user, password = credentials.pop() if credentials else ("", "")
    return Bus(hosts, user, password, schemes == {"tls"})


def _parse_url(url: str) -> tuple[str, dict[str, str | int], str, str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{MBUS_EXPECTED} with a port from 1 to 65535") from None
    odd = parts.path not in ("", "/") or parts.query or parts.fragment
    if parts.scheme not in ("nats", "tls") or not parts.hostname or odd:
        raise ValueError(f"{MBUS_EXPECTED}, tls:// for TLS, other characters percent-encoded")
    host: dict[str, str | int] = {"hostname": parts.hostname, "port": 4222 if port is None else port}
    return parts.scheme, host, unquote(parts.username or ""), unquote(parts.password or "")
