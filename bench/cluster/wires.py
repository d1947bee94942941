"""Network namespaces, so that a router or a NATS server can be cut off from the others without being stopped.

All of it lives in a network namespace of its own, which ends with the process (`unshare --net`): nothing of the
machine's network is touched. In there is a bridge; each router and each NATS server has a namespace with one cable to
it. The kernel drops what is sent over a cable that is pulled: no reset, no answer.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from router.demo.family import Family

from ..errors import BenchError, find

OUTSIDE = "10.77.0.1"
"""The bridge: where fronts and apps are."""
FIRST_HOST = 11
_INSIDE = "ROUTER_CLUSTER_INSIDE"
_PROBE = "ip link set lo up && ip link add probe type bridge && ip link add one type veth peer name two"


def enter() -> None:
    """Start this program anew in a network namespace of its own, unless it is there. Raises BenchError."""
    if os.environ.pop(_INSIDE, ""):
        return
    unshare = find("unshare", "apt-get install util-linux")
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux")):
        find(program, f"apt-get install {package}")
    tried = subprocess.run([unshare, "--net", "sh", "-c", _PROBE], capture_output=True, text=True, check=False)
    module = sys.modules["__main__"].__spec__
    if tried.returncode or module is None:
        raise BenchError(tried.stderr.strip() or "no rights to make network namespaces")
    argv = [unshare, "--net", sys.executable, "-m", module.name, *sys.argv[1:]]
    os.execve(unshare, argv, {**os.environ, _INSIDE: "1"})


class Wires:
    """A namespace for each name. `host(name)` is its address, `prefix(name)` what runs a command in there."""

    def __init__(self, names: Sequence[str]) -> None:
        self._addresses = {name: f"10.77.0.{FIRST_HOST + number}" for number, name in enumerate(names)}
        self._holders: dict[str, int] = {}

    def host(self, name: str) -> str:
        return self._addresses.get(name, OUTSIDE)

    def prefix(self, name: str) -> tuple[str, ...]:
        pid = self._holders.get(name)
        return ("nsenter", "--net", "--target", str(pid)) if pid is not None else ()

    async def lay(self, family: Family) -> None:
        """Bridge, namespaces and cables."""
        await _ip("link set lo up")
        await _ip("link add bridge type bridge")
        await _ip(f"address add {OUTSIDE}/24 dev bridge")
        await _ip("link set bridge up")
        for number, (name, address) in enumerate(self._addresses.items()):
            holder = await family.start(f"net-{name}", "unshare", "--net", "sleep", "infinity")
            family.servers.append(holder)
            pid = holder.process.pid
            await _separate(pid)
            self._holders[name] = pid
            await _ip(f"link add cable{number} type veth peer name eth0 netns {pid}")
            await _ip(f"link set cable{number} master bridge up")
            for words in ("link set lo up", f"address add {address}/24 dev eth0", "link set eth0 up"):
                await _ip(words, self.prefix(name))

    @asynccontextmanager
    async def pulled(self, name: str) -> AsyncIterator[None]:
        """Its cable: nobody reaches it, it reaches nobody."""
        cable = f"cable{list(self._addresses).index(name)}"
        await _ip(f"link set {cable} down")
        try:
            yield
        finally:
            await _ip(f"link set {cable} up")

    @asynccontextmanager
    async def apart(self, name: str, others: Sequence[str]) -> AsyncIterator[None]:
        """What it sends to these others is lost; it reaches everybody else."""
        for other in others:
            await _ip(f"route add blackhole {self.host(other)}/32", self.prefix(name))
        try:
            yield
        finally:
            for other in others:
                await _ip(f"route delete blackhole {self.host(other)}/32", self.prefix(name))


async def _separate(pid: int) -> None:
    """Return when this process has a network namespace that is not ours."""
    ours = os.readlink("/proc/self/ns/net")
    for _ in range(200):
        if os.readlink(f"/proc/{pid}/ns/net") != ours:
            return
        await asyncio.sleep(0.01)
    raise BenchError("a network namespace could not be made")


async def _ip(words: str, prefix: Sequence[str] = ()) -> None:
    process = await asyncio.create_subprocess_exec(*prefix, "ip", *words.split(), stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    if process.returncode:
        raise BenchError(f"ip {words}: {said.decode().strip()}")
