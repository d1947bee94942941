"""The registrar's file: what it says, and what is said about one that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.config.problems import ConfigError
from router.observe.log import Log
from router.registrar.address import AddressError, check_address, is_here, own_address
from router.registrar.config import load
from router.registrar.registrar import AccessError, Registrar

GOOD = """\
message_bus_servers:
- {host: "10.0.0.5:4222", user: nats, password: 0123}
host: 10.0.0.9
routes:
- name: shop
  port: 8080
  uris: [shop.test]
  registration_interval: 20s
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "registrar.yml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(file))
    return [str(problem).removeprefix(f"{file}:") for problem in caught.value.problems]


def loaded(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "registrar.yml"
    file.write_text(text)
    return load(str(file))


def test_a_good_file(tmp_path: Path) -> None:
    config, warnings = loaded(tmp_path, GOOD)
    assert warnings == []
    assert config.message_bus_servers[0].password.get_secret_value() == "0123"
    assert config.routes[0].registration_interval == 20.0
    assert config.unregistration_message_limit == 5


def test_json_will_do(tmp_path: Path) -> None:
    text = (
        '{"message_bus_servers": [{"host": "10.0.0.5:4222"}], "host": "h", "routes": [{"name": "a", "type": "", '
        '"port": 1, "uris": ["a.test"], "registration_interval": "10s", "tags": {"component": "x"}}]}'
    )
    assert loaded(tmp_path, text)[0].routes[0].tags == {"component": "x"}


def test_what_is_not_done_is_said(tmp_path: Path) -> None:
    _, warnings = loaded(tmp_path, GOOD + "routing_api: {api_url: x}\n")
    assert [str(w).rpartition(": ")[2] for w in warnings] == [
        "routes go to the message bus only; there are no TCP routes"
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: shop", "nam: shop", ["5:3: routes[0].name: it is missing, expected text on one line"]),
        ("name: shop", "nam: shop", ["5:3: routes[0].nam: there is no such key (did you mean `name`?)"]),
        ("port: 8080", "port: 0", ["6:9: routes[0].port: 0 given, expected a port number, 1 to 65535"]),
        (": 20s", ": 20", ["8:26: routes[0].registration_interval: 20 given, expected a duration of 10ms or more"]),
        ("  port: 8080\n", "", ["expected `port` or `tls_port`"]),
        ("name: shop", "name: shop\n  type: tcp", ["6:9: routes[0].type: tcp given, expected `http`; this program"]),
        ("[shop.test]", "[]", ["7:9: routes[0].uris: a list given, expected a list of hosts"]),
        ("10.0.0.5:4222", "10.0.0.5", ['2:10: message_bus_servers[0].host: "10.0.0.5" given, expected `HOST:PORT`']),
        (
            ": 20s",
            ": 20s\n  health_check: {script_path: x, timeout: 20s}",
            ["expected a `health_check.timeout` that is shorter than `registration_interval`"],
        ),
        (
            ": 20s",
            ": 20s\n  health_check: {timeout: 1s}",
            ["9:17: routes[0].health_check: a mapping given, expected either `script_path` or `url`"],
        ),
        ("host: 10.0.0.9", "host: [a]", ["3:7: host: a list given, expected an IP address or host name"]),
        ("host: 10.0.0.9", "host: a\nhost: b", ["4:1: host: it is already given in line 3 (keep one of the two)"]),
    ],
)
def test_every_mistake_has_its_place(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    found = problems(tmp_path, GOOD.replace(old, new))
    for line in expected:
        assert any(line in problem for problem in found), found


def test_no_file_and_no_text(tmp_path: Path) -> None:
    assert problems(tmp_path, "# nothing\n") == [" the file is empty"]
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        load(str(tmp_path / "absent.yml"))


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("localhost", True),
        ("a.localhost.", True),
        ("10.0.0.1", False),
        ("app.example.com", False),
    ],
)
def test_addresses_that_lead_nowhere_else(host: str, here: bool) -> None:
    assert is_here(host) is here


def test_a_loopback_address_is_not_announced_to_a_bus_elsewhere(tmp_path: Path) -> None:
    text = GOOD.replace("host: 10.0.0.9", "host: 127.0.0.1")
    with pytest.raises(AddressError, match=r"route shop: 127.0.0.1 is this machine's .* but NATS is at 10.0.0.5"):
        Registrar(loaded(tmp_path, text)[0], Log())
    Registrar(loaded(tmp_path, text + "allow_loopback: true\n")[0], Log())
    check_address("shop", "127.0.0.1", ["localhost", "127.0.0.1"], False)


def test_the_address_that_leads_to_the_bus() -> None:
    assert own_address("127.0.0.1") == "127.0.0.1"
    with pytest.raises(AddressError, match="name the address to announce with `host:`"):
        own_address("no-such-host.invalid")


def test_nothing_to_register_is_said(tmp_path: Path) -> None:
    text = GOOD.partition("routes:")[0]
    assert any("`routes` or `dynamic_config_globs`" in problem for problem in problems(tmp_path, text))
    config, warnings = loaded(tmp_path, text + "dynamic_config_globs: [/etc/routes.d/*.yml]\n")
    assert (config.routes, warnings) == ([], [])


def test_proofs_that_are_none(tmp_path: Path) -> None:
    (seed,) = problems(tmp_path, GOOD + "nats_nkey_seed: SUnonsense\n")
    assert "nats_nkey_seed: *** given, expected a seed: it is no seed of a user's nkey" in seed
    (file,) = problems(tmp_path, GOOD + "nats_credentials: /nowhere/x.creds\n")
    assert "expected a `.creds` file: can't read /nowhere/x.creds: No such file" in file


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    text = GOOD + "nats_mtls_config: {enabled: true, ca_path: /nowhere/ca.pem}\n"
    with pytest.raises(AccessError, match=r"/nowhere/ca.pem can't be used: No such file"):
        Registrar(loaded(tmp_path, text)[0], Log())
