"""What runs in the cluster, where, and with which configuration; nothing is started here."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from router.control.state import State, WorkerState
from router.front import nginx
from router.front.plan import Address, Plan

from ..processes import free_port

DOMAIN = "cluster.localhost"
APPS = ("shop", "blog", "wiki", "mail", "chat", "maps")
INSTANCES = 3
SERVERS = 3
ROUTERS = 3
FRONTS = 2
WORKERS = 2
USER = PASSWORD = "cluster"
LOOPBACK = "127.0.0.1"


def host(app: str) -> str:
    """Under which name an app is asked for."""
    return f"{app}.{DOMAIN}"


def here(name: str) -> str:
    """Where a process is, as long as all are on one machine without walls."""
    return LOOPBACK


@dataclass(frozen=True)
class Layout:
    """Free ports of everything, and files in `folder`. `where(name)` is the address of `nats-0`, `router-2`, `apps`."""

    folder: Path
    fronts: list[int]
    where: Callable[[str], str] = here
    nats: list[int] = field(default_factory=lambda: [free_port() for _ in range(SERVERS)])
    gossip: list[int] = field(default_factory=lambda: [free_port() for _ in range(SERVERS)])
    routers: list[int] = field(default_factory=lambda: [free_port() for _ in range(ROUTERS)])
    status: list[int] = field(default_factory=lambda: [free_port() for _ in range(ROUTERS)])
    apps: dict[str, list[int]] = field(
        default_factory=lambda: {app: [free_port() for _ in range(INSTANCES)] for app in APPS}
    )
    api: int = field(default_factory=free_port)

    def nats_arguments(self, number: int) -> list[str]:
        """Of a nats-server of the cluster."""
        hosts = [self.where(f"nats-{other}") for other in range(SERVERS)]
        routes = [f"nats://{host}:{port}" for host, port in zip(hosts, self.gossip, strict=True)]
        others = ",".join(route for route in routes if route != routes[number])
        return [
            *("-a", hosts[number], "-p", str(self.nats[number]), "--cluster_name", "bus"),
            *("--cluster", routes[number], "--routes", others),
        ]

    def access_log(self, number: int) -> Path:
        """Of a router."""
        return self.folder / f"access-{number}.log"

    def workers(self, number: int) -> list[WorkerState]:
        """Of a router, as it has noted them: its children, and those that it took over from a control before it."""
        try:
            noted = (self.folder / "run" / f"{self.routers[number]}-{number}" / "state.json").read_bytes()
        except OSError:
            return []
        return msgspec.json.decode(noted, type=State).workers

    @property
    def executed(self) -> Path:
        """Tokens of all POSTs that apps have executed, a line each."""
        return self.folder / "executed"

    @property
    def buses(self) -> list[tuple[str, int]]:
        """Addresses and ports for clients of NATS."""
        return [(self.where(f"nats-{number}"), port) for number, port in enumerate(self.nats)]

    def router_file(self, number: int, **more: object) -> Path:
        """Write the configuration of a router, `more` settings included."""
        return self._write(
            f"router-{number}.yml",
            {
                "port": self.routers[number],
                "inet": self.where(f"router-{number}"),
                "local_route": self.where("apps"),
                "index": number,
                "workers": WORKERS,
                "run_dir": str(self.folder / "run"),
                "signals": "nginx",
                "droplet_stale_threshold": "30s",
                "prune_stale_droplets_interval": "2s",
                "start_response_delay_interval": "1s",
                "backends": {"max_attempts": 3},
                "access_log": {"file": str(self.access_log(number))},
                "nats": {"hosts": [{"hostname": host, "port": port} for host, port in self.buses]},
                "status": {"port": self.status[number], "user": USER, "pass": PASSWORD, "routes": {"port": 0}},
                **more,
            },
        )

    def registrar_file(self, app: str) -> Path:
        """Write the registrar's file for all instances of an app."""
        routes = [
            {
                "name": f"{app}-{index}",
                "port": port,
                "uris": [host(app)],
                "registration_interval": "2s",
                "tags": {"component": app},
                "health_check": {"name": "alive", "url": f"http://{self.where('apps')}:{port}/"},
            }
            for index, port in enumerate(self.apps[app])
        ]
        servers = [{"host": f"{host}:{port}"} for host, port in self.buses]
        content = {"message_bus_servers": servers, "host": self.where("apps"), "routes": routes}
        return self._write(f"registrar-{app}.yml", content)

    def nginx_file(self, number: int) -> Path:
        """Write the configuration of an nginx, as `router front nginx` prints it."""
        run_dir = self.folder / f"nginx-{number}"
        run_dir.mkdir(exist_ok=True)
        routers = tuple(Address(self.where(f"router-{number}"), port) for number, port in enumerate(self.routers))
        path = self.folder / f"nginx-{number}.conf"
        path.write_text(
            nginx.render(Plan(routers=routers, listen=Address(LOOPBACK, self.fronts[number]), run_dir=str(run_dir)))
        )
        return path

    def _write(self, name: str, content: object) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(content, indent=2))  # which is YAML too
        return path

    def map(self) -> str:
        """Where everything is, and what to try."""
        fronts, routers = (", ".join(f":{port}" for port in ports) for ports in (self.fronts, self.routers))
        curl = f"curl -s http://{host('shop')}:{self.fronts[0]}/"
        return f"""
  clients
     │
  {FRONTS} nginx         {fronts}
     │
  {ROUTERS} routers       {routers}, {WORKERS} workers each; status {", ".join(f":{port}" for port in self.status)}
     │        ╲
     │         {SERVERS} nats-servers, one cluster: {", ".join(f":{port}" for port in self.nats)}
     │        ╱
  {len(APPS)} apps × {INSTANCES}      {", ".join(APPS)}: kept by a `router registrar` each
  api            :{self.api}, registers api.{DOMAIN} itself

  ask an app                {curl}
  the other front           curl -s http://{host("api")}:{self.fronts[1]}/
  who of it answers         for i in 1 2 3 4; do {curl}; done
  a dashboard               http://{LOOPBACK}:{self.status[0]}/ (user {USER}, password {PASSWORD})
  all routers               {sys.executable} -m router.cli.main fleet -c {self.folder}/router-0.yml
  drain one                 {sys.executable} -m router.cli.main drain -c {self.folder}/router-1.yml
  kill something            kill -9 any of its processes, and ask again

  Files and logs: {self.folder}
  Ctrl-C ends everything.
"""
