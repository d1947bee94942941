"""Which bus a command speaks on, and how it is let in: what `router.yml` says, or servers named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from router.config.bus import Nats
    from router.config.model import RouterConfig
    from router.control.bus.client import BusSettings

EXPECTED = "expected nats://[USER:PASSWORD@ or TOKEN@]HOST[:PORT], tls:// for TLS, several with commas between"


class BusError(Exception):
    """Why no bus can be named, in words for the user."""


class BusTarget(NamedTuple):
    """The command line: the file of `-c`, or the servers of `--nats` with the files that let one in."""

    config_path: str | None = None
    nats: str | None = None
    creds: str = ""
    nkey: str = ""
    tlsca: str = ""
    tlscert: str = ""
    tlskey: str = ""


_OPTIONS = {
    "nats.credentials": "--creds",
    "nats.nkey_seed": "--nkey",
    "nats.ca_certs": "--tlsca",
    "nats.cert_chain": "--tlscert",
    "nats.private_key": "--tlskey",
}


def bus_settings_for(target: BusTarget, config: RouterConfig | None = None) -> BusSettings | None:
    """Where the bus is; None for a configuration without one. `config` is that of the file, if it has been read.

    Raises BusError; what is wrong with a configuration file has been shown then.
    """
    from router.control.errors import StartError
    from router.control.settings import bus_settings, nats_settings

    try:
        if target.nats is not None:
            return nats_settings(_named(target, target.nats))
        if config is None:
            from router.cli.check import load_or_report

            loaded = load_or_report(target.config_path)
            if loaded is None:
                raise BusError("the configuration can't be used")
            config = loaded.config
        return bus_settings(config)
    except StartError as error:
        raise BusError(str(error)) from error


def _named(target: BusTarget, servers: str) -> Nats:
    """The servers of `--nats`, and everything beside it, as the configuration would say it."""
    from pydantic import ValidationError

    from router.config.bus import Nats
    from router.config.dialects import parse_mbus
    from router.config.nats_rules import nats_problems

    urls = [url.strip() if "://" in url else f"nats://{url.strip()}" for url in servers.split(",")]
    try:
        bus = parse_mbus(urls)
        nats = Nats.model_validate(
            {
                "hosts": bus.hosts,
                "user": bus.user if bus.password else "",
                "pass": bus.password,
                "token": "" if bus.password else bus.user,
                "tls_enabled": bus.tls or bool(target.tlsca or target.tlscert or target.tlskey),
                "credentials": target.creds,
                "nkey_seed": _text(target.nkey) if target.nkey else "",
                "ca_certs": target.tlsca,
                "cert_chain": target.tlscert,
                "private_key": target.tlskey,
            }
        )
    except (ValueError, ValidationError):
        raise BusError(f"--nats: {EXPECTED}") from None  # what was given may hold a password
    for keys, wrong, _ in nats_problems(nats):
        raise BusError(f"{' and '.join(_OPTIONS[key] for key in keys)}: {wrong}")
    return nats


def _text(file: str) -> str:
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise BusError(f"--nkey: can't read {file}: {why or error}") from None
