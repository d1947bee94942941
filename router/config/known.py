"""Keys of the Go router and of the 2011-2013 router that this version reads past, and what that means.

A row is a meaning and the keys it holds for. `KNOWN` keys are warned of, `NEEDLESS` ones are not. A key moves out of
here the day it gets a field in `model.py`. Where a user might rely on what does not happen, the row says so plainly.
Contract sections 13.1 and 13.2.
"""

from __future__ import annotations

_NO_ROUTING_API = "routes come from NATS only, not from the routing API"
_NO_METRON = "metrics and logs are not sent to Loggregator"

_ROWS: tuple[tuple[str, str], ...] = (
    (
        _NO_METRON,
        "logging.loggregator_enabled logging.metron_address enable_envelope_v1_metrics"
        " send_http_start_stop_server_event send_http_start_stop_client_event"
        " route_latency_metric_muzzle_duration",
    ),
    (
        _NO_ROUTING_API,
        "routing_api.uri routing_api.port routing_api.auth_disabled routing_api.ca_certs"
        " routing_api.cert_chain routing_api.private_key"
        " oauth.token_endpoint oauth.port oauth.client_name oauth.client_secret"
        " oauth.skip_ssl_validation oauth.ca_certs token_fetcher_max_retries token_fetcher_retry_interval"
        " token_fetcher_expiration_buffer_time",
    ),
    ("it is for the Go runtime; use `workers`", "go_max_procs"),
    ("it is for the Go runtime's profiler, which is not here", "debug_addr"),
    ("the router listens on TCP only, nginx must use `port`", "sock"),
    ("an unknown host is answered with 404, not with a redirect", "404_redirect"),
    ("cookies are not encrypted", "session_key"),
    ("the log goes to standard output", "log_file log_rotation_interval"),
)

KNOWN: dict[str, str] = {key: meaning for meaning, keys in _ROWS for key in keys.split()}
"""Dotted key -> what is not done because the key is not supported."""


_NEEDLESS_ROWS: tuple[tuple[str, str], ...] = (
    ("a route service that is a route of this router needs no port", "route_services_internal_server_port"),
    ("request and response bodies always flow at the same time", "enable_http1_concurrent_read_write"),
    (
        "the Go router reads it and does not use it either",
        "publish_start_message_interval healthcheck_poll_interval healthcheck_timeout websocket_dial_timeout",
    ),
)

NEEDLESS: dict[str, str] = {key: meaning for meaning, keys in _NEEDLESS_ROWS for key in keys.split()}
"""Dotted key -> why nothing is missing without it, whatever its value: no warning."""


def asks_for_nothing(value: object) -> bool:
    """True for a value that switches its feature off: nothing is lost by reading past it."""
    if isinstance(value, list):
        return all(map(asks_for_nothing, value))
    if isinstance(value, dict):
        return all(map(asks_for_nothing, value.values()))
    return value in (None, False, 0, -1, "", "none", "0s")
