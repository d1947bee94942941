"""Registry messages: bytes in, an endpoint and its URIs out, or the reason why not (contract §2.3). No I/O.

One pass of the decoder reads what nearly every sender sends. Only when it balks is the message read again with the
tolerance that the contract asks for: unknown keys ignored, key names without case, the last of several winning, `null`
for an empty value.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from router.control.bus.route_options import BadOption, read_options
from router.messages import EndpointSpec, RegistryMessage

_decode = msgspec.json.Decoder(RegistryMessage | None).decode
_decode_any = msgspec.json.Decoder().decode
_KEYS = frozenset(RegistryMessage.__struct_fields__)
_PLACE = re.compile(r" - at `([^`]*)`")
_PORTS = range(1 << 16)
_INT64 = range(-(1 << 63), 1 << 63)


class Malformed(Exception):
    """A message that is dropped whole. `kind` is a word for counting, the text the reason."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Registration(NamedTuple):
    """What a registry message says; `spec.stale_after` is as sent, 0 when it was not.

    `updated_at` is when the platform changed the endpoint, unix nanoseconds; 0 when that was not said.
    """

    spec: EndpointSpec
    uris: list[str]
    updated_at: int = 0


def read(payload: bytes) -> Registration | None:
    """The registration in a message; None for one without effect (`null`, no URIs). Raises Malformed."""
    try:
        message = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # a ValidationError is a DecodeError too
        message = _tolerantly(payload)
    if message is None:
        return None
    port = _checked(message.port, "port", "port", _PORTS)
    tls_port = _checked(message.tls_port, "port", "tls_port", _PORTS)
    stale_after = _checked(message.stale_threshold_in_seconds, "type", "stale_threshold_in_seconds", _INT64)
    updated_at = _checked(message.endpoint_updated_at_ns, "type", "endpoint_updated_at_ns", _INT64)
    service = message.route_service_url or ""
    if service and not service.startswith("https"):
        raise Malformed("route_service_url", "Unable to validate message. route_service_url must be https")
    try:
        options, weight = read_options(message.options, message.tags)
    except BadOption as error:
        raise Malformed("type", str(error)) from None
    if not message.uris:
        return None
    protocol = message.protocol or "http1"
    spec = EndpointSpec(
        host=message.host or "",
        port=tls_port or port,
        tls=tls_port != 0,
        protocol=protocol,
        app=message.app or "",
        instance_id=message.private_instance_id or "",
        instance_index=message.private_instance_index or "",
        tags=None if message.tags is None else tuple(message.tags.items()),
        server_cert_domain_san=message.server_cert_domain_san or "",
        isolation_segment=message.isolation_segment or "",
        availability_zone=message.availability_zone or "",
        route_service_url=service,
        options=options,
        weight=weight,
        stale_after=stale_after,
    )
    return Registration(spec, message.uris, updated_at)


def _checked(value: int | None, kind: str, key: str, allowed: range) -> int:
    if not value:
        return 0
    if value not in allowed:
        raise Malformed(kind, f"{key} must be {allowed.start} to {allowed.stop - 1}, not {value}")
    return value


def _tolerantly(payload: bytes) -> RegistryMessage | None:
    """The slow way, for keys in another spelling, unknown ones, and `null` inside of values."""
    try:
        raw: Any = _decode_any(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("json", f"not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise Malformed("type", f"a JSON object is expected, not {type(raw).__name__}")
    known: dict[str, Any] = {}
    for name, value in raw.items():
        key = name.lower()
        if key in _KEYS:
            known[key] = value
    match known:
        case {"tags": dict() as tags}:
            known["tags"] = {name: "" if value is None else value for name, value in tags.items()}
    match known:
        case {"uris": list() as uris}:
            known["uris"] = ["" if uri is None else uri for uri in uris]
    try:
        return msgspec.convert(known, RegistryMessage)
    except msgspec.ValidationError as error:
        raise Malformed("type", _PLACE.sub(r" (\1)", str(error))) from None
