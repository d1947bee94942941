"""Certificates in files: read again when they change, so that a renewed one is served without a restart.

Looked at by their time stamps, now and then. What can't be used is reported, and the certificates in force stay. A
certificate that is about to expire is warned of, at start and once a day.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

from router.config.model import RouterConfig
from router.config.pem import PemError, is_text, read_pair
from router.control.errors import StartError
from router.control.settings import backend_tls, front_tls, route_services, status_tls
from router.messages import BackendTls, Certificate, FrontTls, RouteServices
from router.observe.log import Log
from router.proxy.tls import FrontDoor, backend_context, load_pair

LOOK_INTERVAL = 2.0
"""Seconds between two looks at the files."""
WARN_DAYS = 30.0
"""Days before its end at which a certificate is warned of."""
_DAY = 86400.0


class Tls(NamedTuple):
    """What the files hold."""

    front: FrontTls | None
    back: BackendTls
    services: RouteServices | None
    status: Certificate | None


Renewed = Callable[[Tls], None]


class Certificates:
    """Watches over the files of `config`; `renewed` gets what they hold when it has changed and can be used."""

    def __init__(self, config: RouterConfig, log: Log, renewed: Renewed) -> None:
        """Raises StartError for certificates that OpenSSL does not take."""
        self._config = config
        self._log = log.component("tls")
        self._renewed = renewed
        self._files = _files(config)
        self._stamps = self._look()
        self._warned_at = 0.0
        try:
            self._tried()
        except (PemError, ssl.SSLError) as error:
            raise StartError(f"tls_pem, ca_certs: {error}") from error

    def check(self) -> None:
        """Look at the files, and read them if one has changed."""
        if time.time() - self._warned_at > _DAY:
            self.warn_of_expiry()
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            self.reload()

    def reload(self) -> None:
        """Read all files and put what they hold in force."""
        try:
            found = self._tried()
        except (PemError, ssl.SSLError) as error:
            self._log.error("certificates-not-renewed", error=str(error), serving="with those before")
            return
        self._renewed(found)
        self._log.info("certificates-renewed", files=self._files)
        self.warn_of_expiry()

    def warn_of_expiry(self) -> None:
        """Warn of every certificate that has expired or soon will."""
        self._warned_at = time.time()
        config = self._config
        pairs = [(entry.cert_chain, entry.private_key) for entry in config.tls_pem] if config.enable_ssl else []
        if config.status.tls.certificate:
            pairs.append((config.status.tls.certificate, config.status.tls.key))
        for chain, key in pairs:
            try:
                pair = read_pair(chain, key.get_secret_value())
            except PemError:
                continue  # reported by `reload`
            days = pair.days_left()
            if days < WARN_DAYS:
                event = "certificate-expired" if days < 0 else "certificate-expires-soon"
                self._log.warn(event, names=list(pair.names), days_left=round(days, 1), remedy="renew it")

    def _tried(self) -> Tls:
        """What the files hold. Raises PemError, or ssl.SSLError when OpenSSL does not take it."""
        front = front_tls(self._config) if self._config.enable_ssl else None
        back = backend_tls(self._config)
        if front is not None:
            FrontDoor(front)
        if back.authorities or back.certificate is not None:
            backend_context(back)
        services = route_services(self._config)
        if services is not None:
            backend_context(services.tls)
        status = status_tls(self._config)
        if status is not None:
            load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), status)
        return Tls(front, back, services, status)

    def _look(self) -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for path in self._files:
            try:
                status = os.stat(path)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size))
        return found


def _files(config: RouterConfig) -> list[str]:
    """The paths among the settings that may be PEM text or a path."""
    values = list(config.ca_certs)
    for section in (config.backends, config.route_services):
        values += [section.cert_chain, section.private_key.get_secret_value()]
    values += [config.status.tls.certificate, config.status.tls.key.get_secret_value()]
    if config.enable_ssl:
        values.append(config.client_ca_certs)
        for entry in config.tls_pem:
            values += [entry.cert_chain, entry.private_key.get_secret_value()]
    return sorted({value for value in values if value and not is_text(value)})
