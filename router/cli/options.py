"""Options that several commands have. Nothing is imported here but what the command line itself needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

import typer

from router.cli.bus import BusTarget

ConfigFile = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="FILE", help="Configuration file. Without it: defaults."),
]
Port = Annotated[
    int | None,
    typer.Option("--port", "-p", metavar="PORT", help="HTTP port; wins over file and environment."),
]
Inet = Annotated[
    str | None,
    typer.Option("--inet", "-i", metavar="ADDRESS", help="Listen address for HTTP; wins likewise."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Its status port, http://USER:PASSWORD@HOST:PORT; instead of -c."),
]
HostOption = Annotated[str | None, typer.Option("--host", metavar="HOST", help="Routes of this host only.")]
HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="The host.")]
Backend = Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where the backend listens.")]
Uris = Annotated[list[str], typer.Argument(metavar="URI", help="Hosts, or hosts with a path.")]
NatsServer = Annotated[
    str | None,
    typer.Option("--nats", metavar="SERVER", help="nats://USER:PASSWORD@HOST:PORT, or tls://…; instead of -c."),
]
Creds = Annotated[str, typer.Option("--creds", metavar="FILE", help="With --nats: a .creds file.")]
Nkey = Annotated[str, typer.Option("--nkey", metavar="FILE", help="With --nats: a file with the seed of an nkey.")]
TlsCa = Annotated[str, typer.Option("--tlsca", metavar="FILE", help="With --nats: authorities of its certificate.")]
TlsCert = Annotated[str, typer.Option("--tlscert", metavar="FILE", help="With --nats: a certificate of our own.")]
TlsKey = Annotated[str, typer.Option("--tlskey", metavar="FILE", help="With --nats: its key.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]


def bus_target(
    config: ConfigFile = None,
    nats: NatsServer = None,
    creds: Creds = "",
    nkey: Nkey = "",
    tlsca: TlsCa = "",
    tlscert: TlsCert = "",
    tlskey: TlsKey = "",
) -> BusTarget:
    """What these options say together."""
    if nats is None and any((creds, nkey, tlsca, tlscert, tlskey)):
        raise typer.BadParameter("--creds, --nkey and --tls… go with --nats; a configuration has them under `nats`")
    return BusTarget(config, nats, creds, nkey, tlsca, tlscert, tlskey)


def with_bus(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of `bus_target`, and their errors, in the place of its parameter `bus`."""
    options = signature(bus_target, eval_str=True).parameters
    own = signature(command, eval_str=True)
    parameters: list[Parameter] = []
    for each in own.parameters.values():
        parameters += options.values() if each.name == "bus" else [each]

    @wraps(command)
    def with_options(**given: Any) -> None:
        bus = bus_target(**{name: given.pop(name) for name in options})
        command(bus=bus, **given)

    vars(with_options)["__signature__"] = own.replace(parameters=parameters)
    return with_options
