"""What a front is to do: the facts that an nginx or HAProxy configuration is made of, checked; nothing of its syntax.

- Addresses of routers come from the bus, where anybody may speak: only an IP address and a port get through
  (`members.py`). Texts of the command line stand in quotes in the file: what would end them is refused.
- Time-outs follow one order. Who sends on an idle connection must give it up before who receives on it does, so the
  front drops it before the router would. Who waits for an answer waits longer than who gives it, so
  the router's own 504, with its reason, reaches the client.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from router.config.kinds import Host, split_address

LONGEST = 3600
"""Seconds that a front waits where the router sets no limit, and that a silent websocket may last."""
IDLE = 60
"""Seconds that a front keeps an idle connection to a router, unless the router keeps it no longer."""
MARGIN = 10
"""Seconds that a front waits longer than the router."""
_HOST: TypeAdapter[str] = TypeAdapter(Host)
_BREAKS_OUT = re.compile(r"[\x00-\x1f\x7f'\"\\$]")


class PlanError(Exception):
    """Why there is no configuration, in words for the user."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A host, not in brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One front. Paths and texts may be empty: what they are for is then left out. Times are seconds.

    `trusted` are the networks of load balancers before the front: their forwarded headers, or their PROXY headers, are
    believed; from all others they are replaced. `health_port` 0 means that health is asked for on the router's HTTP
    port, by `user_agent`. `run_dir` takes the front's pid file, sockets and temporary files.
    """

    routers: tuple[Address, ...] = ()
    listen: Address = Address("", 80)
    certificate: str = ""
    key: str = ""
    trusted: tuple[str, ...] = ()
    accept_proxy: bool = False
    send_proxy: bool = False
    health_port: int = 0
    user_agent: str = "HTTP-Monitor/1.1"
    router_ca: str = ""
    router_name: str = ""
    run_dir: str = ""
    answer_timeout: int = 60 + MARGIN
    idle_timeout: int = IDLE

    def with_routers(self, routers: tuple[Address, ...]) -> Plan:
        """The same front for these routers."""
        return replace(self, routers=routers)


def check(plan: Plan) -> None:
    """Raises PlanError for what contradicts itself or can't stand in a file."""
    texts = {
        "--cert": plan.certificate,
        "--key": plan.key,
        "--router-ca": plan.router_ca,
        "--run-dir": plan.run_dir,
        "healthcheck_user_agent": plan.user_agent,
    }
    for name, text in texts.items():
        if found := _BREAKS_OUT.search(text):
            raise PlanError(f"{name} {text!r}: {found[0]!r} can't stand in the front's file; choose another name")
    for network in plan.trusted:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise PlanError(f"--trust {network}: {error}; give a network such as 10.0.0.0/8") from error
    if plan.router_name:
        try:
            _HOST.validate_python(plan.router_name)
        except ValueError:
            raise PlanError(f"--router-name {plan.router_name}: expected a host name") from None
    if plan.key and not plan.certificate:
        raise PlanError("--key without --cert; give both, or neither for plain HTTP")
    if plan.accept_proxy and not plan.trusted:
        raise PlanError(
            "--accept-proxy without --trust: anybody could claim any address; name the networks of the load balancers "
            "before this front, such as --trust 10.0.0.0/8"
        )
    if bool(plan.router_ca) != bool(plan.router_name):
        raise PlanError(
            "--router-ca and --router-name go together: authorities of the routers' certificates, and the name in them"
        )
    if not plan.health_port and not plan.user_agent:
        raise PlanError("`healthcheck_user_agent` is empty, so health needs a port: --health-port 8080")


def address(text: str, option: str) -> Address:
    """`HOST:PORT`, `[V6]:PORT`; `option` is what it was given with. Raises PlanError."""
    try:
        host, port = split_address(text)
        return Address(_HOST.validate_python(host), port)
    except ValueError:
        raise PlanError(f"{option} {text}: expected HOST:PORT, such as 10.0.0.5:8081 or [2001:db8::5]:8081") from None


def listen_address(text: str) -> Address:
    """`PORT` or `HOST:PORT`; an empty host means every address. Raises PlanError."""
    return Address("", int(text)) if text.isdecimal() and 0 < int(text) <= 65535 else address(text, "--listen")
