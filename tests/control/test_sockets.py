"""Listening sockets: shared among slots, refused to strangers, and every refusal says what to do."""

from __future__ import annotations

import socket

import pytest

from router.control.errors import StartError
from router.control.sockets import Address, Listeners, resolve

LOOPBACK = Address(socket.AF_INET, "127.0.0.1", 0)


@pytest.fixture
def listeners():
    made = Listeners(LOOPBACK)
    made.bind(2)
    yield made
    made.close()


def test_all_slots_share_one_free_port(listeners: Listeners) -> None:
    ports = {listeners.of(slot).getsockname()[1] for slot in range(2)}
    assert ports == {listeners.address.port}
    assert listeners.address.port > 0


def test_nothing_listens_before_a_worker_does(listeners: Listeners) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listeners.address.port), timeout=5)


def test_connections_wait_while_the_slot_has_no_worker(listeners: Listeners) -> None:
    worker = listeners.of(0).dup()
    worker.listen()
    worker.close()
    with socket.create_connection(("127.0.0.1", listeners.address.port), timeout=5) as client:
        following = listeners.of(0).dup()
        accepted, _ = following.accept()
        accepted.sendall(b"hello")
        assert client.recv(5) == b"hello"
        accepted.close()
        following.close()


@pytest.mark.parametrize("listening", [False, True])
def test_a_second_router_on_the_port_is_refused(listeners: Listeners, listening: bool) -> None:
    """Also in the seconds in which the first one does not listen yet."""
    if listening:
        listeners.of(0).listen()
    second = Listeners(listeners.address)
    with pytest.raises(StartError, match=rf"port: {listeners.address.port} is in use .* -p PORT or `port:`"):
        second.bind(1)


def test_a_stranger_on_the_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(StartError, match=f"port: {port} is in use"):
            Listeners(Address(socket.AF_INET, "127.0.0.1", port)).bind(1)


def test_connections_of_a_router_that_has_stopped_do_not_hold_the_port(listeners: Listeners) -> None:
    listeners.of(0).listen()
    client = socket.create_connection(("127.0.0.1", listeners.address.port), timeout=5)
    accepted, _ = listeners.of(0).accept()
    accepted.close()  # closing first leaves TIME_WAIT at the router
    client.close()
    listeners.close()
    again = Listeners(listeners.address)
    again.bind(1)
    again.close()


def test_workers_that_live_on_share_the_port_with_their_new_control(listeners: Listeners) -> None:
    adopted = listeners.of(0).dup()
    adopted.listen()
    address = listeners.address
    listeners.close()
    restarted = Listeners(Address(address.family, address.host, address.port))
    restarted.adopt(0, adopted)
    restarted.bind(2)
    assert restarted.of(1).getsockname()[1] == address.port
    restarted.close()


def test_an_address_of_another_machine() -> None:
    with pytest.raises(StartError, match=r"inet: 203\.0\.113\.1 is no address of this machine"):
        Listeners(Address(socket.AF_INET, "203.0.113.1", 0)).bind(1)


def test_names_are_resolved() -> None:
    assert resolve("0.0.0.0", 80) == Address(socket.AF_INET, "0.0.0.0", 80)
    assert resolve("::1", 80) == Address(socket.AF_INET6, "::1", 80)
    with pytest.raises(StartError, match=r"inet: no\.such\.host\.invalid"):
        resolve("no.such.host.invalid", 80)


def test_port_0_stands_for_any(listeners: Listeners) -> None:
    assert LOOPBACK.is_that_of(listeners.of(0))
    assert listeners.address.is_that_of(listeners.of(1))
    assert not Address(socket.AF_INET, "127.0.0.1", 1).is_that_of(listeners.of(0))
    assert not Address(socket.AF_INET, "0.0.0.0", 0).is_that_of(listeners.of(0))
