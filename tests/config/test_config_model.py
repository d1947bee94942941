"""Names and defaults against the table of contract 13.1, and what follows from settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from router.config.bus import NatsHost
from router.config.keys import LEAVES, public_view
from router.config.kinds import Kind
from router.config.known import KNOWN
from router.config.model import RouterConfig, default_run_dir
from router.config.observing import Otlp

DEFAULTS = {
    "port": 8081,
    "index": 0,
    "pid_file": "",
    "trace_key": "",
    "healthcheck_user_agent": "HTTP-Monitor/1.1",
    "status.host": "0.0.0.0",
    "status.port": 8080,
    "status.user": "",
    "status.pass": "",
    "status.enable_nontls_health_checks": True,
    "status.tls.port": 8443,
    "status.tls.certificate": "",
    "status.tls.key": "",
    "status.enable_deprecated_varz_healthz_endpoints": False,
    "status.routes.port": 8082,
    "nats.hosts": [{"hostname": "localhost", "port": 4222}],
    "nats.user": "",
    "nats.pass": "",
    "start_response_delay_interval": "5s",
    "droplet_stale_threshold": "2m",
    "prune_stale_droplets_interval": "30s",
    "suspend_pruning_if_nats_unavailable": False,
    "load_balancer_healthy_threshold": "0s",
    "isolation_segments": [],
    "routing_table_sharding_mode": "all",
    "balancing_algorithm": "round-robin",
    "hash_key": "client_address",
    "hash_balance": 1.25,
    "backends.max_conns": 0,
    "balancing_algorithm_az_preference": "none",
    "zone": "",
    "sticky_session_cookie_names": ["JSESSIONID"],
    "sticky_sessions_for_auth_negotiate": False,
    "secure_cookies": False,
    "empty_pool_response_code_503": False,
    "empty_pool_timeout": "0s",
    "endpoint_timeout": "1m",
    "endpoint_dial_timeout": "5s",
    "frontend_idle_timeout": "15m",
    "max_request_header_bytes": 0,
    "max_request_headers": 0,
    "max_response_headers": 0,
    "max_response_header_bytes": 0,
    "backends.cert_chain": "",
    "backends.private_key": "",
    "enable_ssl": False,
    "ssl_port": 443,
    "enable_http2": True,
    "disable_http": False,
    "tls_pem": [],
    "min_tls_version": "TLSv1.2",
    "cipher_suites": "",
    "tls_handshake_timeout": "10s",
    "client_ca_certs": "",
    "only_trust_client_ca_certs": False,
    "enable_verify_client_certificate_metadata": False,
    "verify_client_certificate_metadata": [],
    "forwarded_client_cert": "always_forward",
    "ca_certs": [],
    "enable_proxy": False,
    "skip_ssl_validation": False,
    "route_services_secret": "",
    "route_services_secret_decrypt_only": "",
    "route_services_timeout": "1m",
    "route_services_recommend_https": False,
    "route_services_hairpinning": False,
    "route_services_hairpinning_allowlist": [],
    "route_services.strict_signature_validation": False,
    "route_services.cert_chain": "",
    "route_services.private_key": "",
    "hop_by_hop_headers_to_filter": [],
    "http_rewrite.responses.add_headers_if_not_present": [],
    "http_rewrite.responses.remove_headers": [],
    "html_error_template_file": "",
    "tracing.enable_zipkin": False,
    "tracing.enable_w3c": False,
    "tracing.w3c_tenant_id": "",
    "max_idle_conns": 100,
    "endpoint_keep_alive_probe_interval": "1s",
    "keep_alive_100_continue_requests": False,
    "force_forwarded_proto_https": False,
    "sanitize_forwarded_proto": False,
    "extra_headers_to_log": [],
    "access_log.file": "",
    "logging.level": "debug",
    "access_log.enable_streaming": False,
    "logging.extra_access_log_fields": [],
    "logging.syslog": "",
    "logging.syslog_network": "udp",
    "logging.syslog_truncate": 0,
    "prometheus.enabled": False,
    "prometheus.port": 0,
    "prometheus.cert_path": "",
    "prometheus.key_path": "",
    "prometheus.ca_path": "",
    "prometheus.meters.route_lookup_time_histogram_buckets": [],
    "prometheus.meters.gorouter_time_histogram_buckets": [],
    "prometheus.meters.route_registration_latency_histogram_buckets": [],
    "prometheus.meters.routing_response_latency_histogram_buckets": [],
    "prometheus.meters.http_latency_histogram_buckets": [],
    "per_request_metrics_reporting": True,
    "per_app_prometheus_http_metrics_reporting": False,
    "logging.redact_query_params": "none",
    "logging.disable_log_forwarded_for": False,
    "logging.disable_log_source_ip": False,
}
DIFFERENT_FROM_THE_GO_ROUTER = {
    "nats_client_ping_interval": "3s",
    "backends.max_attempts": 3,
    "route_services.max_attempts": 3,
    "max_tls_version": "TLSv1.3",
    "client_cert_validation": "none",
    "read_header_timeout": "1m",
    "disable_keep_alives": False,
    "max_idle_conns_per_host": 100,
    "logging.format.timestamp": "rfc3339",
}
OURS = {
    "nats.token": "",
    "nats.nkey_seed": "",
    "nats.credentials": "",
    "nats.tls_enabled": False,
    "nats.ca_certs": "",
    "nats.cert_chain": "",
    "nats.private_key": "",
    "warm_start.enabled": True,
    "warm_start.snapshot_interval": "30s",
    "fleet.enabled": True,
    "fleet.interval": "2s",
    "publish_active_apps_interval": "0s",
    "drain_wait": "0s",
    "drain_timeout": None,
    "signals": "",
    "access_log.stdout": False,
    "access_log.format": "line",
    "access_log.buffer_bytes": 8388608,
    "logging.enable_attempts_details": False,
    "logging.syslog_addr": "localhost:514",
    "prometheus.max_apps": 1000,
    "prometheus.max_endpoints": 2000,
    "tracing.otlp.endpoint": "",
    "tracing.otlp.sample_percent": 100,
    "tracing.otlp.service_name": "router",
    "tracing.otlp.headers": [],
    "tracing.otlp.ca_file": "",
    "tracing.otlp.timeout": "10s",
    "tracing.otlp.queue_size": 8192,
    "publish_load_interval": "0s",
    "status.expose_all_apps": False,
    "routes": [],
    "inet": "0.0.0.0",
    "workers": "auto",
    "run_dir": None,
    "local_route": None,
    "debug_404": False,
    "backends.idle_timeout": "55s",
    "backends.replay_bytes": 65536,
    "backends.max_queue": 32,
    "backends.queue_timeout": "500ms",
    "backends.retry_budget": 20,
    "backends.hedge_after": "0s",
    "backends.slow_start": "0s",
    "backends.ejection.enabled": True,
    "backends.ejection.consecutive_failures": 5,
    "backends.ejection.failure_margin": 20,
    "backends.ejection.owed_requests": 3,
    "backends.ejection.owed_after": "500ms",
    "backends.ejection.shortest": "500ms",
    "backends.ejection.longest": "2.5s",
    "backends.ejection.max_share": 50,
    "backends.health_checks": [],
    "client_body_timeout": "1m",
    "client_send_timeout": "1m",
    "max_connections": 0,
    "max_requests_per_connection": 0,
    "max_request_line_bytes": 65536,
    "upgrades": ["websocket"],
    "route_services.websockets": False,
    "proxy_trusted_sources": [],
}


def test_every_key_and_its_default() -> None:
    config = RouterConfig()
    assert {key: leaf.shown_in(config) for key, leaf in LEAVES.items()} == {
        **DEFAULTS,
        **DIFFERENT_FROM_THE_GO_ROUTER,
        **OURS,
    }


def test_every_key_is_described_and_has_a_kind() -> None:
    for key, leaf in LEAVES.items():
        assert leaf.field.description, key
        assert any(isinstance(item, Kind) for item in leaf.field.metadata), key


def test_no_key_is_both_supported_and_not() -> None:
    assert not LEAVES.keys() & KNOWN.keys()


def test_durations_are_seconds_in_python() -> None:
    assert RouterConfig(endpoint_timeout=2.5).endpoint_timeout == 2.5
    assert RouterConfig.model_validate({"endpoint_timeout": "1m30s"}).endpoint_timeout == 90.0
    assert RouterConfig.model_validate({"endpoint_timeout": "-1s"}).endpoint_timeout == 0.0
    with pytest.raises(ValidationError):
        RouterConfig(endpoint_dial_timeout=-1)


def test_secrets_do_not_show() -> None:
    config = RouterConfig.model_validate({"nats": {"pass": "hunter2"}})
    assert config.nats is not None
    assert config.nats.password == SecretStr("hunter2")
    assert "hunter2" not in repr(config)
    assert LEAVES["nats.pass"].shown_in(config) == "***"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        RouterConfig().port = 1  # type: ignore[misc]


@pytest.mark.parametrize("host", ["a", "a-b.example.com", "10.0.0.1", "::1", "fe80::1", "nats_1", "localhost."])
def test_hosts(host: str) -> None:
    assert NatsHost(hostname=host).hostname == host


@pytest.mark.parametrize("host", ["", "1.2.3", "-a", "a b", "a..b", "nats://a", "a:1", "[::1]", "x" * 64, "300.1.1.1"])
def test_not_hosts(host: str) -> None:
    with pytest.raises(ValidationError):
        NatsHost(hostname=host)


RUN_DIRS = [
    ({"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/7"}, "/run/a"),
    ({"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/router"),
    ({}, "/run/router" if os.getuid() == 0 else f"/tmp/router-{os.getuid()}"),
]


@pytest.mark.parametrize(("environ", "directory"), RUN_DIRS)
def test_default_run_dir(environ: dict[str, str], directory: str) -> None:
    assert default_run_dir(environ) == directory


def test_run_dir_is_one_for_each_router() -> None:
    config = RouterConfig(run_dir="/run/x", port=8081, index=2)
    assert config.effective_run_dir == Path("/run/x/8081-2")


EFFECTIVE = [
    ("effective_max_attempts", {"backends": {"max_attempts": 0}}, 1),
    ("effective_max_attempts", {"backends": {"max_attempts": 3}}, 3),
    ("effective_max_request_header_bytes", {}, 1 << 20),
    ("effective_max_request_header_bytes", {"max_request_header_bytes": 5}, 5),
    ("effective_max_request_header_bytes", {"max_request_header_bytes": 2 << 20}, 1 << 20),
    ("effective_max_response_header_bytes", {}, 10 << 20),
    ("effective_max_response_header_bytes", {"max_response_header_bytes": 20 << 20}, 20 << 20),
    ("effective_workers", {}, len(os.sched_getaffinity(0))),
    ("effective_workers", {"workers": 0}, 0),
    ("effective_workers", {"workers": 5}, 5),
]


@pytest.mark.parametrize(("name", "settings", "value"), EFFECTIVE)
def test_effective_values(name: str, settings: dict[str, object], value: int) -> None:
    assert getattr(RouterConfig.model_validate(settings), name) == value


def test_what_is_shown_has_no_secret() -> None:
    config = RouterConfig.model_validate(
        {
            "status": {"user": "u", "pass": "SECRET"},
            "nats": {"pass": "SECRET", "token": "", "hosts": [{"hostname": "10.0.0.1", "port": 4222}]},
            "balancing_algorithm": "least-connection",
        }
    )
    shown = public_view(config)
    assert shown["balancing_algorithm"] == "least-connection"
    assert shown["status"]["user"] == "u"
    assert shown["nats"]["hosts"] == [{"hostname": "10.0.0.1", "port": 4222}]
    assert "pass" not in shown["status"]
    assert not {"pass", "token", "nkey_seed", "private_key"} & shown["nats"].keys()
    assert "SECRET" not in json.dumps(shown)
    assert public_view(RouterConfig(nats=None))["nats"] is None


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("", ""),
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("https://otel.example.com/", "https://otel.example.com/v1/traces"),
        ("https://otel.example.com/otlp/traces", "https://otel.example.com/otlp/traces"),
        ("localhost:4318", None),
        ("grpc://localhost:4317", None),
        ("http://user:secret@localhost", None),
        ("http://localhost:99999", None),
    ],
)
def test_url_of_a_collector(url: str, used: str | None) -> None:
    if used is None:
        with pytest.raises(ValidationError):
            Otlp(endpoint=url)
    else:
        assert Otlp(endpoint=url).endpoint == used
    exported = RouterConfig(tracing={"otlp": {"endpoint": used or "http://localhost"}})  # type: ignore[arg-type]
    assert exported.effective_w3c
