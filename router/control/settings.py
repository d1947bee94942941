"""What the parts of the router get to know of the configuration: one function a part, and nowhere else.

Names of balancing strategies become `module:attribute` here, so that workers need not look through what is installed.
"""

from __future__ import annotations

import secrets
import socket
import ssl
from functools import lru_cache, partial
from importlib import metadata
from importlib.metadata import entry_points
from importlib.util import find_spec

import msgspec

from router.balance.round_robin import RoundRobin
from router.balance.strategy import ENTRY_POINT_GROUP, StrategyError, load_strategy
from router.config.backends import Backends
from router.config.backends import RouteServices as RouteServicesSection
from router.config.bus import Nats
from router.config.ciphers import openssl_names
from router.config.error_template import read_template
from router.config.kinds import split_address
from router.config.model import RouterConfig
from router.config.pem import PemError, read_pair, read_pem, subject_key
from router.control.bus.client import BusSettings
from router.control.bus.fleet import About
from router.control.errors import StartError
from router.control.table import RegistrySettings
from router.http.signature import signature_key
from router.in_flight import LANES
from router.messages import (
    NO_OPTIONS,
    BackendTls,
    Certificate,
    Ejection,
    FrontTls,
    RouteOptions,
    RouteServices,
    Syslog,
    WorkerSettings,
)
from router.observe.otlp import Export
from router.proxy.tls import DEFAULT_CIPHERS, load_pair

MOST_WORKERS = LANES // 2
"""As many lanes again are for workers that leave while their successors serve."""


def check_strategy(config: RouterConfig) -> None:
    """Raises StartError when the router's own strategy can't be used: better no start than a silent substitute."""
    name = config.balancing_algorithm
    try:
        load_strategy(name, installed_strategies()[name])(NO_OPTIONS, RoundRobin)
    except StrategyError as error:
        raise StartError(f"balancing_algorithm: {error}") from error
    except Exception as error:
        raise StartError(f"balancing_algorithm: strategy {name!r} can't be made: {error!r}") from error


def worker_settings(config: RouterConfig, router_ip: str) -> WorkerSettings:
    """The settings of every worker. `router_ip` is the address the router announces."""
    rewrite = config.http_rewrite.responses
    return WorkerSettings(
        index=config.index,
        trace_key=config.trace_key,
        router_ip=router_ip,
        healthcheck_user_agent=config.healthcheck_user_agent,
        balancing_algorithm=config.balancing_algorithm,
        balancing_options=RouteOptions(hash_key=config.hash_key, hash_balance=config.hash_balance),
        strategies=installed_strategies(),
        max_attempts=config.effective_max_attempts,
        max_conns=config.backends.max_conns,
        failed_mark_seconds=config.droplet_stale_threshold / 4,  # contract §4.1
        sticky_cookie_names=tuple(config.sticky_session_cookie_names),
        sticky_auth_negotiate=config.sticky_sessions_for_auth_negotiate,
        secure_cookies=config.secure_cookies,
        zone=config.zone,
        prefer_zone=config.balancing_algorithm_az_preference == "locally-optimistic",
        ejection=ejection(config),
        slow_start=config.backends.slow_start,
        retry_budget=config.backends.retry_budget / 100,
        max_queue=config.backends.max_queue,
        queue_timeout=config.backends.queue_timeout,
        hedge_after=config.backends.hedge_after,
        empty_pool_503=config.empty_pool_response_code_503,
        endpoint_timeout=max(config.endpoint_timeout, 0.0),
        dial_timeout=config.endpoint_dial_timeout,
        frontend_idle_timeout=config.frontend_idle_timeout,
        read_header_timeout=config.read_header_timeout,
        client_body_timeout=config.client_body_timeout,
        client_send_timeout=config.client_send_timeout,
        max_connections=-(-config.max_connections // max(config.effective_workers, 1)),
        max_requests_per_connection=config.max_requests_per_connection,
        max_target=config.max_request_line_bytes,
        upgrades=tuple(config.upgrades),
        backend_idle_timeout=config.backends.idle_timeout,
        probe_interval=config.endpoint_keep_alive_probe_interval,
        disable_keep_alives=config.disable_keep_alives,
        keep_alive_100_continue=config.keep_alive_100_continue_requests,
        max_idle_per_endpoint=min(config.max_idle_conns, config.max_idle_conns_per_host),
        replay_bytes=config.backends.replay_bytes,
        max_request_head=config.effective_max_request_header_bytes,
        max_request_headers=config.max_request_headers,
        max_response_head=config.effective_max_response_header_bytes,
        max_response_headers=config.max_response_headers,
        hop_by_hop_headers_to_filter=tuple(config.hop_by_hop_headers_to_filter),
        force_forwarded_proto_https=config.force_forwarded_proto_https,
        sanitize_forwarded_proto=config.sanitize_forwarded_proto,
        add_response_headers=tuple((header.name, header.value) for header in rewrite.add_headers_if_not_present),
        remove_response_headers=tuple(header.name for header in rewrite.remove_headers),
        trace_zipkin=config.tracing.enable_zipkin,
        trace_w3c=config.effective_w3c,
        w3c_tenant_id=config.tracing.w3c_tenant_id,
        spans_sampled=config.tracing.otlp.sample_percent / 100 if config.tracing.otlp.endpoint else None,
        html_error_template=read_template(config.html_error_template_file) if config.html_error_template_file else "",
        debug_404=config.debug_404,
        access_log_file=config.access_log.file,
        access_log_stdout=config.access_log.stdout,
        access_log_json=config.access_log.format == "json",
        access_log_buffer=config.access_log.buffer_bytes,
        access_log_fields=config.effective_access_log_fields,
        syslog=syslog(config) if config.access_log.enable_streaming else None,
        per_request_metrics=config.per_request_metrics_reporting,
        extra_headers_to_log=tuple(config.extra_headers_to_log),
        redact_query_params=config.logging.redact_query_params,
        disable_log_forwarded_for=config.logging.disable_log_forwarded_for,
        disable_log_source_ip=config.logging.disable_log_source_ip,
        listeners=tuple(kind for kind, wanted in listener_kinds(config) if wanted),
        front_tls=front_tls(config) if config.enable_ssl else None,
        backend_tls=backend_tls(config),
        route_services=route_services(config),
        enable_http2=config.enable_http2,
        tls_handshake_timeout=config.tls_handshake_timeout,
        forwarded_client_cert=config.forwarded_client_cert,
        enable_proxy=config.enable_proxy,
        proxy_trusted_sources=tuple(config.proxy_trusted_sources),
        log_level=config.logging.level,
        log_timestamp=config.logging.format.timestamp,
    )


def syslog(config: RouterConfig) -> Syslog:
    """Where access log records are streamed to."""
    logging = config.logging
    host, port = split_address(logging.syslog_addr)
    return Syslog(host, port, logging.syslog_network.startswith("tcp"), logging.syslog, logging.syslog_truncate)


def histogram_bounds(config: RouterConfig) -> dict[str, list[float]]:
    """Metric → bounds of its buckets, where the configuration gives any."""
    meters = config.prometheus.meters
    return {
        "route_lookup_time": meters.route_lookup_time_histogram_buckets,
        "gorouter_time": meters.gorouter_time_histogram_buckets,
        "route_registration_latency": meters.route_registration_latency_histogram_buckets,
        "latency": meters.routing_response_latency_histogram_buckets,
        "http_latency_seconds": meters.http_latency_histogram_buckets,
    }


def ejection(config: RouterConfig) -> Ejection:
    """The rules of passive health."""
    rules = config.backends.ejection
    return Ejection(
        rules.enabled,
        rules.consecutive_failures,
        rules.failure_margin / 100,
        rules.owed_requests,
        rules.owed_after,
        rules.shortest,
        max(rules.shortest, rules.longest),
        rules.max_share / 100,
    )


def listener_kinds(config: RouterConfig) -> tuple[tuple[str, bool], ...]:
    """What can be listened for, and whether it is."""
    return (("http", not config.disable_http), ("https", config.enable_ssl))


def front_tls(config: RouterConfig) -> FrontTls:
    """The HTTPS listener; files are read anew at every call. Raises PemError."""
    pairs = [read_pair(entry.cert_chain, entry.private_key.get_secret_value()) for entry in config.tls_pem]
    rules = config.verify_client_certificate_metadata if config.enable_verify_client_certificate_metadata else ()
    return FrontTls(
        tuple(Certificate(pair.chain, pair.key, pair.names) for pair in pairs),
        config.min_tls_version or "TLSv1.2",
        config.max_tls_version or "TLSv1.3",
        openssl_names(config.cipher_suites),
        config.client_cert_validation,
        read_pem(config.client_ca_certs) if config.client_ca_certs else "",
        not config.only_trust_client_ca_certs,
        tuple(
            (
                subject_key(rule.issuer_in_chain.model_dump()),
                tuple(subject_key(subject.model_dump()) for subject in rule.valid_cert_subjects),
            )
            for rule in rules
        ),
    )


def backend_tls(config: RouterConfig) -> BackendTls:
    """TLS towards backends. Raises PemError."""
    return BackendTls(
        "\n".join(map(read_pem, config.ca_certs)),
        _own_certificate(config.backends),
        openssl_names(config.cipher_suites) if config.enable_ssl else "",
    )


def _own_certificate(section: Backends | RouteServicesSection) -> Certificate | None:
    chain, key = section.cert_chain, section.private_key.get_secret_value()
    return Certificate(read_pem(chain), read_pem(key)) if chain and key else None


def route_services(config: RouterConfig) -> RouteServices | None:
    """What workers need for route services; None without a secret. Raises PemError."""
    secret = config.route_services_secret.get_secret_value()
    previous = config.route_services_secret_decrypt_only.get_secret_value()
    if not secret:
        return None
    return RouteServices(
        _signature_key(secret),
        _signature_key(previous) if previous else b"",
        config.route_services_timeout,
        config.route_services_recommend_https,
        max(config.route_services.max_attempts, 1),
        config.route_services.strict_signature_validation,
        config.route_services.websockets,
        config.route_services_hairpinning,
        tuple(config.route_services_hairpinning_allowlist),
        msgspec.structs.replace(
            backend_tls(config),
            certificate=_own_certificate(config.route_services),
            min_version=config.min_tls_version or "TLSv1.2",
            max_version=config.max_tls_version or "TLSv1.3",
            verify=not config.skip_ssl_validation,
        ),
    )


_signature_key = lru_cache(4)(signature_key)
"""Made anew with every reload otherwise, which takes its time."""


def installed_strategies() -> dict[str, str]:
    """Strategy name → `module:attribute`."""
    return {entry.name: entry.value for entry in entry_points(group=ENTRY_POINT_GROUP)}


def registry_settings(config: RouterConfig) -> RegistrySettings:
    """The settings of the registry."""
    return RegistrySettings(
        balancing_algorithm=config.balancing_algorithm,
        algorithms=frozenset(installed_strategies()) | {config.balancing_algorithm},
        stale_threshold=config.droplet_stale_threshold,
        sharding_mode=config.routing_table_sharding_mode,
        isolation_segments=frozenset(config.isolation_segments),
        keep_empty_pools=config.empty_pool_response_code_503,
        empty_pool_timeout=config.empty_pool_timeout,
        http2=config.enable_http2,
        suspend_pruning=config.suspend_pruning_if_nats_unavailable,
    )


def bus_settings(config: RouterConfig) -> BusSettings | None:
    """Where the bus is; None for a router without one. Raises StartError."""
    return None if config.nats is None else nats_settings(config.nats, config.nats_client_ping_interval)


def nats_settings(nats: Nats, ping_interval: float = 0.0) -> BusSettings:
    """Where this bus is, and how to be let in; `ping_interval` in seconds. Raises StartError."""
    seed = nats.nkey_seed.get_secret_value()
    if (seed or nats.credentials) and find_spec("nkeys") is None:
        key = "nats.nkey_seed" if seed else "nats.credentials"
        raise StartError(f"{key}: the library for nkeys is missing; `pip install 'router[nkeys]'`")
    if nats.tls_enabled:
        bus_tls(nats)  # what is wrong with it is told at once
    return BusSettings(
        servers=tuple((host.hostname, host.port) for host in nats.hosts),
        user=nats.user,
        password=nats.password.get_secret_value(),
        token=nats.token.get_secret_value(),
        nkey_seed=seed,
        credentials=nats.credentials,
        tls=partial(bus_tls, nats) if nats.tls_enabled else None,
        ping_interval=ping_interval,
    )


def version() -> str:
    """The router's own."""
    try:
        return metadata.version("router")
    except metadata.PackageNotFoundError:
        return "unknown"


def export(config: RouterConfig, id: str, ip: str) -> Export | None:
    """Where spans go, None = nowhere; `id` and `ip` are the router's. Raises StartError."""
    otlp = config.tracing.otlp
    if not otlp.endpoint:
        return None
    if not _installed("opentelemetry.exporter.otlp.proto.http") or not _installed("opentelemetry.sdk"):
        raise StartError(
            "tracing.otlp.endpoint: the library for OpenTelemetry is missing; `pip install 'router[otel]'`"
        )
    if otlp.ca_file:
        try:
            ssl.create_default_context(cafile=otlp.ca_file)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or str(error)
            raise StartError(f"tracing.otlp.ca_file: {otlp.ca_file}: {reason}; name a readable PEM file") from error
    return Export(
        otlp.endpoint,
        {header.name: header.value.get_secret_value() for header in otlp.headers},
        otlp.ca_file,
        otlp.timeout or 10.0,
        otlp.queue_size,
        {
            "service.name": otlp.service_name,
            "service.version": version(),
            "service.instance.id": id,
            "host.name": socket.gethostname(),
            "host.ip": ip,
            "router.index": config.index,
        },
    )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it is part of
        return False


def fleet_about(config: RouterConfig, id: str, host: str) -> About:
    """What this router says of itself to others; `host` is where it serves."""
    parts = [
        config.routing_table_sharding_mode,
        *sorted(config.isolation_segments),
        f"{config.droplet_stale_threshold:g}s",
        "http2" if config.enable_http2 else "http1",
    ]
    return About(id, version(), host, " ".join(parts))


def bus_tls(nats: Nats) -> ssl.SSLContext:
    """TLS towards NATS (contract §2.8); files are read anew at every call. Raises StartError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(DEFAULT_CIPHERS)
    key = nats.private_key.get_secret_value()
    try:
        if nats.ca_certs:
            context.load_verify_locations(cadata=read_pem(nats.ca_certs))
        else:
            context.load_default_certs()
        if nats.cert_chain and key:
            load_pair(context, Certificate(read_pem(nats.cert_chain), read_pem(key)))
    except (PemError, ssl.SSLError) as error:
        raise StartError(f"nats: TLS can't be set up: {error}; see `router check`") from error
    return context


FIXED = (
    "port",
    "ssl_port",
    "inet",
    "index",
    "workers",
    "run_dir",
    "pid_file",
    "local_route",
    "status",
    "prometheus",
    "enable_ssl",
    "disable_http",
    "signals",
    "publish_active_apps_interval",
    "publish_load_interval",
    "warm_start",
    "fleet",
    "prune_stale_droplets_interval",
)
"""Keys, or sections, that control reads once: a reload can't change them."""


def fixed_differences(old: RouterConfig, new: RouterConfig) -> list[str]:
    """Those of `FIXED` that differ, and `nats` where a bus comes or goes."""
    found = [key for key in FIXED if hasattr(old, key) and getattr(old, key) != getattr(new, key)]
    if (old.nats is None) != (new.nats is None):
        found.append("nats")
    return found


def number_of_workers(config: RouterConfig) -> int:
    """How many worker processes there are to be; 0 = none, control serves. Raises StartError when they are too many."""
    if config.workers == "auto":
        return min(config.effective_workers, MOST_WORKERS)
    if config.effective_workers > MOST_WORKERS:
        raise StartError(f"workers: {config.effective_workers} given, at most {MOST_WORKERS} are possible")
    return config.effective_workers


def status_tls(config: RouterConfig) -> Certificate | None:
    """The certificate of the status port; None = there is none. Files are read anew at every call. Raises PemError."""
    tls = config.status.tls
    if not tls.certificate:
        return None
    pair = read_pair(tls.certificate, tls.key.get_secret_value())
    return Certificate(pair.chain, pair.key, pair.names)


def status_credentials(config: RouterConfig) -> tuple[str, str]:
    """User and password for `/routes` and `/varz`; what is not configured is drawn at random."""
    status = config.status
    return status.user or "router", status.password.get_secret_value() or secrets.token_urlsafe(24)
