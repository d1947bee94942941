"""What the parts of the router get to know of the configuration: one function a part, and nowhere else.

Names of balancing strategies become `module:attribute` here, so that workers need not look through what is installed.
"""

from __future__ import annotations

import secrets
from importlib.metadata import entry_points

from router.balance.strategy import ENTRY_POINT_GROUP
from router.config.model import RouterConfig
from router.control.bus.client import BusSettings
from router.control.errors import StartError
from router.control.registry import RegistrySettings
from router.in_flight import LANES
from router.messages import WorkerSettings


def worker_settings(config: RouterConfig, router_ip: str) -> WorkerSettings:
    """The settings of every worker. `router_ip` is the address the router announces."""
    return WorkerSettings(
        index=config.index,
        trace_key=config.trace_key,
        router_ip=router_ip,
        healthcheck_user_agent=config.healthcheck_user_agent,
        balancing_algorithm=config.balancing_algorithm,
        strategies=installed_strategies(),
        max_attempts=config.effective_max_attempts,
        max_conns=config.backends.max_conns,
        failed_mark_seconds=config.droplet_stale_threshold / 4,  # contract §4.1
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
        disable_keep_alives=config.disable_keep_alives,
        max_idle_per_endpoint=config.max_idle_conns_per_host,
        replay_bytes=config.backends.replay_bytes,
        max_request_head=config.effective_max_request_header_bytes,
        max_request_headers=config.max_request_headers,
        max_response_head=config.effective_max_response_header_bytes,
        max_response_headers=config.max_response_headers,
        force_forwarded_proto_https=config.force_forwarded_proto_https,
        sanitize_forwarded_proto=config.sanitize_forwarded_proto,
        debug_404=config.debug_404,
        access_log_file=config.access_log.file,
        extra_headers_to_log=tuple(config.extra_headers_to_log),
        redact_query_params=config.logging.redact_query_params,
        disable_log_forwarded_for=config.logging.disable_log_forwarded_for,
        disable_log_source_ip=config.logging.disable_log_source_ip,
        log_level=config.logging.level,
        log_timestamp=config.logging.format.timestamp,
    )


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
        suspend_pruning=config.suspend_pruning_if_nats_unavailable,
    )


def bus_settings(config: RouterConfig) -> BusSettings | None:
    """Where the bus is; None for a router without one."""
    nats = config.nats
    if nats is None:
        return None
    return BusSettings(
        servers=tuple((host.hostname, host.port) for host in nats.hosts),
        user=nats.user,
        password=nats.password.get_secret_value(),
        ping_interval=config.nats_client_ping_interval,
    )


def number_of_workers(config: RouterConfig) -> int:
    """How many worker processes there are to be; 0 = none, control serves. Raises StartError when they are too many."""
    if config.workers == "auto":
        return min(config.effective_workers, LANES)
    if config.effective_workers > LANES:
        raise StartError(f"workers: {config.effective_workers} given, at most {LANES} are possible")
    return config.effective_workers


def status_credentials(config: RouterConfig) -> tuple[str, str]:
    """User and password for `/routes` and `/varz`; what is not configured is drawn at random."""
    status = config.status
    return status.user or "router", status.password.get_secret_value() or secrets.token_urlsafe(24)
