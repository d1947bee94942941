"""The types of configuration values: what pydantic checks, what a message expects, what the JSON schema says.

A `Kind` in an annotation is the one place that knows how a value is named in messages and in the reference,
whether the file's text is taken as written, and whether the value must never be shown.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
)

from router.config import duration
from router.config.ciphers import openssl_names
from router.http.rewrite import FIXED
from router.table.hash_key import EXPECTED, BadHashKey, hash_key


@dataclass(frozen=True, slots=True)
class Kind:
    """What a message or the reference page calls this type, and how the loader reads it."""

    expected: str
    text: bool = False
    """Scalars are handed over as written, so that `trace_key: 022` and `30s` reach their field unchanged."""
    secret: bool = False
    """Shown as `***` wherever the configuration is shown."""
    duration: bool = False
    """Seconds in Python, Go's notation in text."""


# An empty ValueError means: what the Kind expects.


def _seconds(value: object) -> object:
    """Text is Go's notation (a bare number is nanoseconds); a Python number is seconds already."""
    return duration.parse_duration(value) if isinstance(value, str) else value


def _at_least_zero(seconds: float) -> float:
    if not 0 <= seconds <= duration.LONGEST / 1e9:
        raise ValueError(f"{duration.EXPECTED}, 0 or more")
    return seconds


_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)


def _address(text: str | None) -> str | None:
    if not text:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError from None  # its text would repeat the value


def _host(text: str) -> str:
    if _HOSTNAME.fullmatch(text) and not re.fullmatch(r"[0-9.]+", text) and len(text) <= 253:
        return text
    if (address := _address(text)) is None:
        raise ValueError
    return address


def _workers(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError


_NOT_INSTALLED = "a strategy, but none is installed: install the router as a package (`pip install .`)"


def _strategy(name: str) -> str:
    if name not in (names := strategies()):
        raise ValueError("one of " + ", ".join(f"`{known}`" for known in names) if names else _NOT_INSTALLED)
    return name


def _default_strategy(name: str) -> str:
    if name == "hash":
        raise ValueError("`hash` with single routes only, whose `hash_header` it needs; `consistent-hash` is for all")
    return _strategy(name)


def strategies() -> tuple[str, ...]:
    """Names of the installed balancing strategies (entry points `router.strategies`); none is loaded."""
    from importlib.metadata import entry_points  # only when a name is given

    return tuple(sorted(entry_points(group="router.strategies").names))


def _hash_key(text: str) -> str:
    try:
        return hash_key(text) if text else ""
    except BadHashKey:
        raise ValueError from None


def _hash_balance(factor: float) -> float:
    if factor and not 1 <= factor < math.inf:
        raise ValueError
    return factor


def _rewritable(name: str) -> str:
    if name.lower().encode() in FIXED:
        raise ValueError("a header that does not frame the message or belong to one connection")
    return name


def _cipher_suites(text: str) -> str:
    openssl_names(text)
    return text


_INTERNAL_HOST = re.compile(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", re.ASCII)


def _internal_host(text: str) -> str:
    if not _INTERNAL_HOST.fullmatch(text):
        raise ValueError
    return text.lower()


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError from None  # its text would repeat the value


ACCESS_LOG_FIELDS = frozenset(
    ("backend_time", "dial_time", "dns_time", "failed_attempts", "failed_attempts_time", "local_address", "tls_time")
)


def _known_fields(names: list[str]) -> list[str]:
    """Duplicates and unknown names are dropped, as the Go router does (contract 12.2)."""
    return [name for name in dict.fromkeys(names) if name in ACCESS_LOG_FIELDS]


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[address]:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError
    return host, int(port)


def _remote_address(text: str) -> str:
    host, _ = split_address(text)
    _host(host)
    return text


def _collector(url: str) -> str:
    """With the path that OTLP has for traces, where it has none."""
    if not url:
        return url
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError
    if parts.port == 0:
        raise ValueError
    return url if parts.path.strip("/") else urlunsplit(parts._replace(path="/v1/traces"))


def _rising(bounds: list[float]) -> list[float]:
    if any(a >= b for a, b in pairwise(bounds)):
        raise ValueError
    return bounds


_GO_DURATION = WithJsonSchema(
    {"anyOf": [{"type": "string", "pattern": duration.PATTERN}, {"type": "integer", "minimum": 0}]}
)
_GO_DURATION_SIGNED = WithJsonSchema({"anyOf": [{"type": "string", "pattern": duration.PATTERN}, {"type": "integer"}]})
_SCALAR_TEXT = WithJsonSchema({"type": ["string", "number"]})
_NO_CONTROLS = StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")
_TOKEN = StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

Flag = Annotated[bool, Field(strict=True), Kind("true or false")]
Count = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1), Kind("a whole number, 0 or more")]
Port = Annotated[int, Field(strict=True, ge=0, le=65535), Kind("a port number, 0 to 65535")]
RemotePort = Annotated[int, Field(strict=True, ge=1, le=65535), Kind("a port number, 1 to 65535")]
Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    AfterValidator(_at_least_zero),
    _GO_DURATION,
    Kind(f"{duration.EXPECTED}, 0 or more", text=True, duration=True),
]
SignedDuration = Annotated[
    float,
    BeforeValidator(_seconds),
    AfterValidator(lambda seconds: max(seconds, 0.0)),
    _GO_DURATION_SIGNED,
    Kind(duration.EXPECTED, text=True, duration=True),
]
"""As `Duration`, where the Go router takes a negative value for "none": it arrives as 0."""
OptionalDuration = Annotated[
    float | None,
    BeforeValidator(_seconds),
    AfterValidator(lambda seconds: None if seconds is None else _at_least_zero(seconds)),
    _GO_DURATION,
    Kind(f"{duration.EXPECTED}, 0 or more", text=True, duration=True),
]
SignalProfile = Annotated[Literal["", "gorouter", "nginx"], Kind("`gorouter` or `nginx`", text=True)]
Text = Annotated[str, _NO_CONTROLS, _SCALAR_TEXT, Kind("text on one line", text=True)]
Texts = Annotated[list[Text], Kind("a list of texts", text=True)]
HeaderName = Annotated[str, _TOKEN, Kind("a header name", text=True)]
ResponseHeaderName = Annotated[HeaderName, AfterValidator(_rewritable), Kind("a header name", text=True)]
TenantId = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9][a-z0-9_*/-]{0,240})?$"),
    Kind("a tenant id of `tracestate`: a-z, 0-9, `_*/-`", text=True),
]
CollectorUrl = Annotated[
    str, AfterValidator(_collector), Kind("the http or https URL of a collector, or nothing", text=True)
]
HeaderNames = Annotated[list[HeaderName], Kind("a list of header names", text=True)]
CookieNames = Annotated[
    list[Annotated[str, _TOKEN, Kind("a cookie name", text=True)]], Kind("a list of cookie names", text=True)
]
Percent = Annotated[int, Field(strict=True, ge=0, le=100), Kind("a percentage, 0 to 100")]
Share = Annotated[float, Field(ge=0, le=100), Kind("a percentage, 0 to 100, fractions too")]
Secret = Annotated[SecretStr, _SCALAR_TEXT, Kind("text on one line", text=True, secret=True)]
Path = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$"), Kind("a path", text=True)]
OptionalPath = Annotated[str | None, Kind("a path", text=True)]
Host = Annotated[str, AfterValidator(_host), Kind("an IP address or host name", text=True)]
Address = Annotated[str | None, AfterValidator(_address), Kind("an IP address", text=True)]
Workers = Annotated[
    int | Literal["auto"],
    BeforeValidator(_workers),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 0}]}),
    Kind("`auto` or a whole number, 0 or more"),
]
Strategy = Annotated[str, AfterValidator(_strategy), Kind("the name of an installed strategy", text=True)]
DefaultStrategy = Annotated[
    str, AfterValidator(_default_strategy), Kind("the name of an installed strategy", text=True)
]
HashKey = Annotated[str, AfterValidator(_hash_key), Kind(EXPECTED, text=True)]
HashBalance = Annotated[
    float,
    AfterValidator(_hash_balance),
    WithJsonSchema({"anyOf": [{"const": 0}, {"type": "number", "minimum": 1}]}),
    Kind("0, or a number of 1 or more"),
]
ShardingMode = Annotated[
    Literal["all", "segments", "shared-and-segments"],
    Kind("`all`, `segments` or `shared-and-segments`", text=True),
]
LogLevel = Annotated[
    Literal["debug", "info", "warn", "error", "fatal"],
    Kind("`debug`, `info`, `warn`, `error` or `fatal`", text=True),
]
TimestampFormat = Annotated[
    Literal["rfc3339", "unix-epoch"],
    Kind("`rfc3339` or `unix-epoch`", text=True),
]
Redaction = Annotated[Literal["none", "all", "hash"], Kind("`none`, `all` or `hash`", text=True)]
AccessLogFormat = Annotated[Literal["line", "json"], Kind("`line` or `json`", text=True)]
AccessLogFields = Annotated[list[str], AfterValidator(_known_fields), Kind("a list of field names", text=True)]
SyslogNetwork = Annotated[str, StringConstraints(pattern=r"^(udp|tcp)[46]?$"), Kind("`udp` or `tcp`", text=True)]
RemoteAddress = Annotated[str, AfterValidator(_remote_address), Kind("`host:port`", text=True)]
Bounds = Annotated[list[float], AfterValidator(_rising), Kind("a list of numbers that rise")]
Pem = Annotated[str, Kind("PEM text, or the path of a file that holds it", text=True)]
Pems = Annotated[list[Pem], Kind("a list of PEM texts or paths", text=True)]
SecretPem = Annotated[
    SecretStr, _SCALAR_TEXT, Kind("PEM text, or the path of a file that holds it", text=True, secret=True)
]
CipherSuites = Annotated[str, AfterValidator(_cipher_suites), Kind("cipher suites separated by `:`", text=True)]
MinTlsVersion = Annotated[
    Literal["", "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"],
    Kind("`TLSv1.0`, `TLSv1.1`, `TLSv1.2` or `TLSv1.3`", text=True),
]
MaxTlsVersion = Annotated[Literal["", "TLSv1.2", "TLSv1.3"], Kind("`TLSv1.2` or `TLSv1.3`", text=True)]
ClientCertValidation = Annotated[
    Literal["none", "request", "require"], Kind("`none`, `request` or `require`", text=True)
]
ForwardedClientCert = Annotated[
    Literal["always_forward", "forward", "sanitize_set"],
    Kind("`always_forward`, `forward` or `sanitize_set`", text=True),
]
CheckType = Annotated[Literal["tcp", "http"], Kind("`tcp` or `http`", text=True)]
UrlPath = Annotated[str, StringConstraints(pattern=r"^/[\x21-\x7e]*$"), Kind("a path that begins with `/`", text=True)]
ZonePreference = Annotated[Literal["none", "locally-optimistic"], Kind("`none` or `locally-optimistic`", text=True)]
Positive = Annotated[int, Field(strict=True, ge=1, le=2**31), Kind("a whole number, 1 or more")]
InternalHosts = Annotated[
    list[Annotated[str, AfterValidator(_internal_host), Kind("a host name, or `*.` and a domain", text=True)]],
    Kind("a list of host names", text=True),
]
Networks = Annotated[
    list[Annotated[str, AfterValidator(_network), Kind("an IP address or network", text=True)]],
    Kind("a list of IP addresses or networks", text=True),
]
