"""`router demo` as a user runs it: a real NATS server, real apps, the router, on free ports."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

START_SECONDS = 30.0
STOP_SECONDS = 15.0


class Demo:
    """A running demo: what it wrote, its ports, its processes."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "router.cli.main", "demo", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.written = ""

    def wait_for(self, text: str) -> None:
        """Read its output until `text` is there."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        while text not in self.written:
            readable, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            data = os.read(self.process.stdout.fileno(), 65536) if readable else b""
            if not data:
                self.process.kill()
                assert self.process.stderr is not None
                pytest.fail(f"no {text!r} in:\n{self.written}\n{self.process.stderr.read().decode()}")
            self.written += data.decode()

    def port(self, pattern: str) -> int:
        """The port that stands behind `pattern` in what it wrote."""
        found = re.search(pattern + r":(\d+)", self.written)
        assert found is not None
        return int(found[1])

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """Signal it; its exit status, and what else it wrote."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=STOP_SECONDS)
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
def demo() -> Iterator[Demo]:
    demo = Demo("--port", "0", "--status-port", "0", "--nats-port", "0")
    try:
        demo.wait_for("Ctrl-C ends everything")
        yield demo
    finally:
        demo.process.kill()
        demo.process.communicate()


def get(port: int, host: str, path: str = "/", user: str = "") -> tuple[int, str]:
    """GET over loopback; status and body."""
    headers = {"Host": host}
    if user:
        headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def descendants(pid: int) -> set[int]:
    """All processes below `pid`."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parents[int(stat.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    """Those that still run; one that ended and waits for its parent to notice does not."""

    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return set(filter(runs, pids))


def wait_until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while left := alive(pids):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.05)


def hello_process(text: str) -> int:
    found = re.fullmatch(r"hello from instance \d \(process (\d+)\)\n", text)
    assert found is not None, text
    return int(found[1])


def test_apps_answer_and_ctrl_c_ends_everything(demo: Demo) -> None:
    port = demo.port("hello.localhost")
    status_port = demo.port("demo:demo http://127.0.0.1")

    answers = {get(port, "hello.localhost")[1] for _ in range(4)}
    assert len(answers) == 2  # both instances

    status, seen = get(port, "echo.localhost", "/any/path")
    assert status == 200
    assert seen.startswith("GET /any/path\n")
    assert "X-Forwarded-For: 127.0.0.1\n" in seen
    assert "X-Vcap-Request-Id: " in seen

    status, page = get(port, "helo.localhost")
    assert status == 404
    assert "'helo.localhost'" in page
    assert "hello.localhost" in page  # the nearest one

    table = json.loads(get(status_port, "", "/routes", user="demo:demo")[1])
    assert {host: len(endpoints) for host, endpoints in table.items()} == {
        "echo.localhost": 2,
        "hello.localhost": 2,
    }

    family = descendants(demo.process.pid)
    assert len(family) >= 6  # NATS, control, four instances; workers
    code, out, err = demo.end(signal.SIGINT)
    assert (code, err) == (0, "")
    assert "Stopping" in out
    assert not alive(family)


def test_an_instance_that_dies_costs_no_request(demo: Demo) -> None:
    port = demo.port("hello.localhost")
    dead = hello_process(get(port, "hello.localhost")[1])
    os.kill(dead, signal.SIGKILL)
    answers = [get(port, "hello.localhost") for _ in range(4)]
    assert {status for status, _ in answers} == {200}
    assert len({hello_process(text) for _, text in answers}) == 1
    demo.wait_for("has ended")
    assert demo.end(signal.SIGTERM)[0] == 0


def test_a_server_that_dies_ends_the_demo(demo: Demo) -> None:
    family = descendants(demo.process.pid)
    nats = next(pid for pid in family if b"nats-server" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(nats, signal.SIGKILL)
    _, err = demo.process.communicate(timeout=STOP_SECONDS)
    assert demo.process.returncode == 1
    assert err.startswith(b"router demo: nats ended by signal 9")
    assert not alive(family)


def test_a_killed_demo_leaves_nothing_behind(demo: Demo) -> None:
    family = descendants(demo.process.pid)
    demo.process.kill()
    demo.process.wait()
    wait_until_gone(family)


def test_ports_in_use_are_named_with_their_options() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as http_port,
        socket.create_server(("127.0.0.1", 0)) as nats_port,
    ):
        first, second = (listener.getsockname()[1] for listener in (http_port, nats_port))
        demo = Demo("--port", str(first), "--status-port", "0", "--nats-port", str(second))
        out, err = demo.process.communicate(timeout=START_SECONDS)
    message = err.decode()
    assert demo.process.returncode == 1
    assert out == b""
    assert f"port {first}, for HTTP, is in use" in message
    assert f"port {second}, for NATS, is in use" in message
    assert "router demo --port " in message
    assert " --nats-port " in message


def test_one_port_for_two_things_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    demo = Demo("--port", port, "--status-port", port, "--nats-port", "0")
    _, err = demo.process.communicate(timeout=START_SECONDS)
    assert demo.process.returncode == 1
    assert f"port {port}, for health and status, is in use" in err.decode()
