"""Settings that do not go together, each alone being right. TLS, the bus and the error page have files of their own."""

from __future__ import annotations

from collections.abc import Iterator

from router.config.error_template import template_problems
from router.config.model import RouterConfig
from router.config.nats_rules import nats_problems
from router.config.tls_rules import tls_problems


def contradictions(config: RouterConfig) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """The keys (first the one to mend), what is wrong, the remedy."""
    if config.routing_table_sharding_mode == "segments" and not config.isolation_segments:
        yield (
            ("routing_table_sharding_mode", "isolation_segments"),
            "`segments` with no `isolation_segments` would keep no route at all",
            "name the segments in `isolation_segments`, or use `all`",
        )
    if config.disable_http and not config.enable_ssl:
        yield (
            ("disable_http", "enable_ssl"),
            "without HTTP and without HTTPS there is nothing to listen on",
            "set `enable_ssl: true`, or leave `disable_http` false",
        )
    if config.client_cert_validation != "none" and config.only_trust_client_ca_certs and not config.client_ca_certs:
        yield (
            ("only_trust_client_ca_certs", "client_ca_certs"),
            "no client certificate could be good: there is no authority to trust",
            "name one in `client_ca_certs`, or set `only_trust_client_ca_certs: false`",
        )
    names = [route.name for route in config.routes if route.name]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield ("routes",), f"several routes have the name {twice[0]}", "give each route a name of its own, or none"
    bound = [route for route in config.routes if route.route_service_url]
    if bound and not config.route_services_secret.get_secret_value():
        yield (
            ("routes", "route_services_secret"),
            f"{bound[0].uris[0]} has a `route_service_url`, and without a secret all its requests would be refused",
            "give `route_services_secret`, the same on every router, or take the URL away",
        )
    yield from tls_problems(config)
    if config.nats is not None:
        yield from nats_problems(config.nats)
    yield from template_problems(config)
    prometheus = config.prometheus
    if bool(prometheus.cert_path) != bool(prometheus.key_path):
        missing, given = ("key_path", "cert_path") if prometheus.cert_path else ("cert_path", "key_path")
        yield (
            (f"prometheus.{missing}", f"prometheus.{given}"),
            f"`{given}` alone is no certificate that could be shown",
            "give both `prometheus.cert_path` and `prometheus.key_path`, or neither",
        )
    if config.fleet.enabled and config.fleet.interval < 0.1:
        yield (
            ("fleet.interval",),
            "more than ten announcements a second would only cost CPU",
            "give at least 0.1s, or set `fleet.enabled: false`",
        )
    if not config.status.enable_nontls_health_checks and not config.status.tls.certificate:
        yield (
            ("status.enable_nontls_health_checks", "status.tls.certificate"),
            "false would leave no health endpoint",
            "leave it true, or give `status.tls` a certificate",
        )
