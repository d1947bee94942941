"""The command line. Each command imports its machinery when it runs, so that `router --help` costs next to
nothing.

Exit status: 0 good, 1 failure or bad configuration, 2 wrong usage. What a program may read goes to standard
output, everything else to standard error. Commands are functions of their own files that give their exit
status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from router.cli.bus import BusTarget
from router.cli.options import (
    Backend,
    ConfigFile,
    HostArgument,
    HostOption,
    Inet,
    Json,
    Port,
    Uris,
    Url,
    with_bus,
)
from router.cli.streams import forgive_names

app = typer.Typer(
    help="The front door for deployed apps: an HTTP reverse proxy that learns its routes from NATS.",
    epilog="`router -c FILE` alone is `router run -c FILE`. New here? Try `router demo`.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class Front(StrEnum):
    """Programs that a configuration can be written for."""

    nginx = "nginx"
    haproxy = "haproxy"


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback(invoke_without_command=True)
def router(
    context: typer.Context,
    config: ConfigFile = None,
    port: Port = None,
    inet: Inet = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    given = {"config": config, "port": port, "inet": inet}
    given = {name: value for name, value in given.items() if value is not None}
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: given}
    elif given:
        run(config, port, inet)
    else:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


@app.command()
def run(config: ConfigFile = None, port: Port = None, inet: Inet = None) -> None:
    """Run the router."""
    from router.cli.run import run

    raise typer.Exit(run(config, {"port": port, "inet": inet}))


@app.command()
def check(config: ConfigFile = None, port: Port = None, inet: Inet = None, json: Json = False) -> None:
    """Check a configuration and report every mistake in it."""
    from router.cli.check import check

    raise typer.Exit(check(config, {"port": port, "inet": inet}, json))


@app.command("config")
def config_(
    config: ConfigFile = None,
    port: Port = None,
    inet: Inet = None,
    effective: Annotated[bool, typer.Option("--effective", help="Every value and its origin (default).")] = False,
    reference: Annotated[bool, typer.Option("--reference", help="The reference page, as Markdown.")] = False,
    sample: Annotated[bool, typer.Option("--sample", help="A file of all keys with their defaults.")] = False,
    json: Json = False,
) -> None:
    """Show the configuration in effect, or what can be configured."""
    from router.cli import config_cmd

    if effective + reference + sample > 1:
        raise typer.BadParameter("give only one of --effective, --reference and --sample")
    if json and (reference or sample):
        raise typer.BadParameter("--json goes with --effective; `router schema` is the reference for programs")
    if reference or sample:
        raise typer.Exit(config_cmd.reference() if reference else config_cmd.sample())
    raise typer.Exit(config_cmd.effective(config, {"port": port, "inet": inet}, json))


@app.command()
def schema() -> None:
    """Write the JSON schema of the configuration file."""
    from router.cli.schema import schema

    raise typer.Exit(schema())


@app.command()
def routes(config: ConfigFile = None, host: HostOption = None, url: Url = None, json: Json = False) -> None:
    """Show the routing table of the running router."""
    from router.cli.ask import Target
    from router.cli.routes import routes

    raise typer.Exit(routes(Target(config, url), host, json))


@app.command()
def explain(
    address: Annotated[str, typer.Argument(metavar="URL", help="What is asked for: http://HOST/PATH.")],
    config: ConfigFile = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="HEADER", help="`Name: value`, many times.")
    ] = None,
    method: Annotated[str, typer.Option("--method", "-X", metavar="METHOD", help="Method of the request.")] = "GET",
    client: Annotated[str, typer.Option(metavar="ADDRESS", help="IP address it comes from.")] = "192.0.2.1",
    url: Url = None,
    json: Json = False,
) -> None:
    """Explain what the running router would do with a request. Shown are route, backends and headers."""
    from router.cli.ask import Target
    from router.cli.explain import explain

    raise typer.Exit(explain(Target(config, url), address, method, header or [], client, json))


@app.command()
def history(host: HostArgument, config: ConfigFile = None, url: Url = None, json: Json = False) -> None:
    """Show what happened to the routes of a host, and why."""
    from router.cli.ask import Target
    from router.cli.history import history

    raise typer.Exit(history(Target(config, url), host, json))


@app.command()
def doctor(config: ConfigFile = None, url: Url = None, json: Json = False) -> None:
    """Look for mistakes in the set-up around the running router."""
    from router.cli.ask import Target
    from router.cli.doctor import doctor

    raise typer.Exit(doctor(Target(config, url), json))


@app.command()
def health(
    config: ConfigFile = None,
    url: Url = None,
    ready: Annotated[bool, typer.Option("--ready", help="Ask whether it may get traffic (/readyz).")] = False,
    json: Json = False,
) -> None:
    """Tell by the exit status whether the running router is healthy."""
    from router.cli.ask import Target
    from router.cli.health import health

    raise typer.Exit(health(Target(config, url), ready, json))


@app.command()
@with_bus
def register(
    backend: Backend,
    uris: Uris,
    bus: BusTarget,
    tls: Annotated[bool, typer.Option("--tls", help="The port speaks TLS.")] = False,
    app_id: Annotated[str, typer.Option("--app", metavar="ID", help="Id of the app.")] = "",
    instance: Annotated[str, typer.Option(metavar="ID", help="Id of the instance.")] = "",
    index: Annotated[str, typer.Option(metavar="NUMBER", help="Number of the instance.")] = "",
    zone: Annotated[str, typer.Option(metavar="ZONE", help="Availability zone.")] = "",
    san: Annotated[str, typer.Option(metavar="NAME", help="Name that its certificate carries.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A tag, many times.")] = None,
    option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the route, many times.")] = None,
    allow_loopback: Annotated[
        bool, typer.Option("--allow-loopback", help="Announce a loopback address to a bus elsewhere.")
    ] = False,
    json: Json = False,
) -> None:
    """Register a backend once, by a message on the bus. To keep it registered: `router registrar`."""
    from router.cli.register import Told, register

    about = {
        "app": app_id,
        "private_instance_id": instance,
        "private_instance_index": index,
        "availability_zone": zone,
        "server_cert_domain_san": san,
    }
    told = Told(backend, uris, tls, about, tag or [], option or [])
    raise typer.Exit(register("register", bus, told, allow_loopback, json))


@app.command()
@with_bus
def unregister(
    backend: Backend,
    uris: Uris,
    bus: BusTarget,
    tls: Annotated[bool, typer.Option("--tls", help="The port speaks TLS.")] = False,
    json: Json = False,
) -> None:
    """Unregister a backend, by a message on the bus."""
    from router.cli.register import Told, register

    raise typer.Exit(register("unregister", bus, Told(backend, uris, tls), True, json))


@app.command()
def registrar(
    config: Annotated[str, typer.Option("--config", "-c", metavar="FILE", help="The routes to register.")],
    check: Annotated[bool, typer.Option("--check", help="Only check the file and show what would be sent.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write findings in the file as JSON.")] = False,
) -> None:
    """Keep the routes of a file registered while they are healthy."""
    from router.cli.registrar import registrar

    raise typer.Exit(registrar(config, check, json))


@app.command()
def top(
    config: ConfigFile = None,
    url: Url = None,
    app: Annotated[str | None, typer.Option(metavar="APP", help="One app: its endpoints and failures.")] = None,
    sort: Annotated[
        str, typer.Option(metavar="COLUMN", help="app, rate, errors, p50, p99, instances or in_flight.")
    ] = "rate",
    filter: Annotated[str, typer.Option(metavar="TEXT", help="Part of the app's name or of one of its routes.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    json: Json = False,
) -> None:
    """Watch the apps of the running router."""
    from router.cli.ask import Target
    from router.cli.top import top

    raise typer.Exit(top(Target(config, url), as_json=json, once=once, app=app, sort=sort, text=filter))


@app.command()
def failures(
    config: ConfigFile = None,
    url: Url = None,
    request_id: Annotated[str, typer.Option(metavar="ID", help="The X-Vcap-Request-Id of one request.")] = "",
    app: Annotated[str, typer.Option(metavar="APP", help="Of this app.")] = "",
    filter: Annotated[str, typer.Option(metavar="TEXT", help="Part of the URL, the error or the backend.")] = "",
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, max=500, help="How many at most.")] = 20,
    json: Json = False,
) -> None:
    """Show requests that failed lately, and why."""
    from router.cli.ask import Target
    from router.cli.failures import failures

    raise typer.Exit(failures(Target(config, url), request_id, app, filter, limit, json))


@app.command()
@with_bus
def fleet(
    bus: BusTarget,
    json: Json = False,
) -> None:
    """Show all routers on the bus, and where their tables differ."""
    from router.cli.fleet import fleet

    raise typer.Exit(fleet(bus, json))


@app.command()
@with_bus
def front(
    kind: Annotated[Front, typer.Argument(help="The program before the routers.", show_default=False)],
    bus: BusTarget,
    router: Annotated[
        list[str] | None,
        typer.Option("--router", metavar="HOST:PORT", help="A router, many times; instead of those on the bus."),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            metavar="PORT", show_default=False, help="HTTP port of all routers, for those that don't announce it."
        ),
    ] = 0,
    listen: Annotated[
        str, typer.Option(metavar="[HOST:]PORT", help="Where the front listens; 80, with --cert 443.")
    ] = "",
    cert: Annotated[str, typer.Option(metavar="FILE", help="Speak TLS to clients, with this certificate.")] = "",
    key: Annotated[str, typer.Option(metavar="FILE", help="Its key, unless it is in the same file.")] = "",
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK", help="Load balancers before the front, believed about clients; many times."),
    ] = None,
    accept_proxy: Annotated[bool, typer.Option("--accept-proxy", help="Those send PROXY headers.")] = False,
    send_proxy: Annotated[bool, typer.Option("--send-proxy", help="Send PROXY headers to routers (haproxy).")] = False,
    health_port: Annotated[
        int,
        typer.Option(
            metavar="PORT", show_default=False, help="Ask for /health on this port (haproxy); else the HTTP port."
        ),
    ] = 0,
    router_ca: Annotated[
        str, typer.Option(metavar="FILE", help="Speak TLS to routers; authorities of their certificates.")
    ] = "",
    router_name: Annotated[str, typer.Option(metavar="NAME", help="Name in the routers' certificates.")] = "",
    run_dir: Annotated[
        str, typer.Option(metavar="DIR", help="Where the front has its pid file, sockets, temporary files.")
    ] = "",
    output: Annotated[str, typer.Option(metavar="FILE", help="Write there, once the program accepts it.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Keep the file current until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Time between two looks at who is there.")
    ] = 2.0,
    reload_cmd: Annotated[
        str, typer.Option(metavar="COMMAND", help="Run by /bin/sh whenever the file has changed.")
    ] = "",
    json: Json = False,
) -> None:
    """Write the configuration of an nginx or HAProxy in front. It has the routers that are alive."""
    from router.cli.front import Given, front

    if watch and (router or not output):
        raise typer.BadParameter("--watch needs --output FILE, and a bus: no --router")
    if reload_cmd and not output:
        raise typer.BadParameter("--reload-cmd needs --output FILE")
    if json and output:
        raise typer.BadParameter("--json goes to standard output: leave out --output")
    given = Given(
        kind=kind.value,
        bus=bus,
        routers=router or [],
        port=port,
        listen=listen or ("443" if cert else "80"),
        certificate=cert,
        key=key,
        trusted=trust or [],
        accept_proxy=accept_proxy,
        send_proxy=send_proxy,
        health_port=health_port,
        router_ca=router_ca,
        router_name=router_name,
        run_dir=run_dir,
        output=output,
        watch=watch,
        interval=interval,
        reload=reload_cmd,
        as_json=json,
    )
    raise typer.Exit(front(given))


@app.command()
def demo(
    port: Annotated[int, typer.Option(metavar="PORT", help="HTTP port.")] = 8081,
    status_port: Annotated[int, typer.Option(metavar="PORT", help="Port of health and status.")] = 8080,
    nats_port: Annotated[int, typer.Option(metavar="PORT", help="Port of the NATS server it starts.")] = 4222,
) -> None:
    """Run a router with a bus and sample apps of its own."""
    from router.cli.demo import demo

    raise typer.Exit(demo(port, status_port, nats_port))


@app.command()
def drain(
    config: ConfigFile = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the router has ended.")] = False,
) -> None:
    """Have the running router finish what it has begun, and end. It fails its health checks first."""
    from router.cli.orders import order

    raise typer.Exit(order("drain", config, wait))


@app.command()
def reload(config: ConfigFile = None) -> None:
    """Have the running router read its configuration again. It reopens its logs, too."""
    from router.cli.orders import order

    raise typer.Exit(order("reload", config))


@app.command()
def upgrade(config: ConfigFile = None) -> None:
    """Have the running router go on as the installed program. No request is lost."""
    from router.cli.orders import order

    raise typer.Exit(order("upgrade", config))


@app.command()
def simulate(
    strategy: Annotated[list[str] | None, typer.Option(metavar="NAME", help="May be repeated; else all.")] = None,
    endpoints: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Backends.")] = 10,
    slow: Annotated[int, typer.Option(metavar="N", min=0, help="How many of them are slow.")] = 1,
    slow_factor: Annotated[float, typer.Option(metavar="N", min=1, help="How many times slower these are.")] = 10.0,
    dead: Annotated[int, typer.Option(metavar="N", min=0, help="How many refuse every connection.")] = 0,
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, help="Requests that a backend works on at once.")] = 8,
    service: Annotated[
        str, typer.Option(metavar="KIND", help="Service times: constant, exponential, lognormal or pareto.")
    ] = "lognormal",
    mean_ms: Annotated[float, typer.Option(metavar="N", min=0.001, help="Mean service time of a well backend.")] = 50.0,
    load: Annotated[
        float, typer.Option(metavar="N", min=0.001, max=10, help="Share of what well backends could do.")
    ] = 0.6,
    burst: Annotated[
        float, typer.Option(metavar="N", min=0.1, help="Load for 1 s of every 5 s, times the load.")
    ] = 1.0,
    requests: Annotated[int, typer.Option(metavar="N", min=1, max=10_000_000, help="Requests to send.")] = 20_000,
    seed: Annotated[int, typer.Option(metavar="N", help="Equal seeds give equal results.")] = 1,
    replay: Annotated[
        str | None, typer.Option(metavar="FILE", help="Send the requests of an access log instead, when they came.")
    ] = None,
    plot: Annotated[str | None, typer.Option(metavar="FILE", help="Write a picture (needs router[simulate]).")] = None,
    json: Json = False,
) -> None:
    """Compare balancing strategies in a simulation. It uses the router's own code."""
    from router.cli.simulate import simulate
    from router.simulate.scenario import Scenario

    scenario = Scenario(
        endpoints, slow, slow_factor, dead, concurrency, service, mean_ms / 1000, load, burst, requests, seed
    )
    raise typer.Exit(simulate(scenario, strategy or (), replay, plot, json))


@app.command()
def plugins(json: Json = False) -> None:
    """List the balancing strategies that are installed."""
    from router.cli.plugins import plugins

    raise typer.Exit(plugins(json))


@app.command()
def version() -> None:
    """Show the version."""
    from router.cli.version import version

    typer.echo(f"router {version()}")


def main() -> None:
    """All of the command line; `router.__main__` knows a shorter way for the usual start."""
    forgive_names()
    app(prog_name="router")


if __name__ == "__main__":
    main()
