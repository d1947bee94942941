"""Options of a front become a file for the real program; what can't be done is refused with the option's name."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.front import haproxy, nginx
from router.front.plan import Address, Plan, PlanError, address, check, listen_address
from tests.support import certs
from tests.support.programs import find

RENDER = {"nginx": nginx.render, "haproxy": haproxy.render}
CHECK = {"nginx": ("nginx", "-t", "-q", "-c"), "haproxy": ("haproxy", "-c", "-q", "-f")}
ROUTERS = (Address("127.0.0.1", 8081), Address("::1", 8082))

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "every address": {"listen": Address("", 18080)},
    "trusted": {"trusted": ("10.0.0.0/8", "fd00::/8")},
    "PROXY headers": {"trusted": ("10.0.0.0/8", "fd00::/8"), "accept_proxy": True},
    "no limits": {"answer_timeout": 3600},
    "health port": {"health_port": 8080},
    "odd agent": {"user_agent": "check/1.0 (100%; {x})"},
}


@pytest.mark.parametrize("kind", RENDER)
@pytest.mark.parametrize("name", VARIANTS)
def test_the_program_accepts_the_file(kind: str, name: str, tmp_path: Path) -> None:
    accepts(kind, Plan(**{"listen": Address("127.0.0.1", 18080), **VARIANTS[name]}), tmp_path)


@pytest.mark.parametrize("kind", RENDER)
def test_the_program_accepts_tls_on_both_sides(kind: str, tmp_path: Path) -> None:
    pair = certs.certificate(certs.issued("front.test"))
    both = tmp_path / "pair with key.pem"
    both.write_text(pair.chain + pair.key)
    ca = tmp_path / "ca.pem"
    ca.write_text(certs.pem(certs.authority()))
    plan = Plan(
        listen=Address("127.0.0.1", 18443), certificate=str(both), router_ca=str(ca), router_name="router.internal"
    )
    accepts(kind, plan, tmp_path)
    if kind == "haproxy":
        accepts(kind, replace(plan, health_port=8080, send_proxy=True), tmp_path)
        accepts(kind, replace(plan, send_proxy=True), tmp_path)


def accepts(kind: str, plan: Plan, directory: Path) -> None:
    program, *arguments = CHECK[kind]
    if find(program) is None:
        pytest.skip(f"{program} is not installed")
    check(plan)
    file = directory / "front.conf"
    file.write_text(RENDER[kind](replace(plan, routers=ROUTERS, run_dir=str(directory))))
    done = subprocess.run([program, *arguments, str(file)], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"key": "/k.pem"}, "--key without --cert"),
        ({"accept_proxy": True}, "--accept-proxy without --trust"),
        ({"trusted": ("ten",)}, "--trust ten"),
        ({"router_ca": "/ca.pem"}, "--router-ca and --router-name go together"),
        ({"router_ca": "/ca.pem", "router_name": "a b"}, "--router-name a b"),
        ({"user_agent": ""}, "--health-port"),
        ({"user_agent": 'x"; }'}, "healthcheck_user_agent"),
        ({"certificate": "/a\n b"}, "--cert"),
        ({"run_dir": "/run/$user"}, "--run-dir"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        check(Plan(**settings))


def test_what_a_program_cannot_do_is_refused() -> None:
    with pytest.raises(PlanError, match="--send-proxy: nginx"):
        nginx.render(Plan(send_proxy=True))
    with pytest.raises(PlanError, match=r"--key /k\.pem: HAProxy"):
        haproxy.render(Plan(certificate="/c.pem", key="/k.pem"))
    assert "crt '/c.pem'" in haproxy.render(Plan(certificate="/c.pem", key="/c.pem.key"))


@pytest.mark.parametrize("text", ["", "10.0.0.5", "10.0.0.5:0", "10.0.0.5:65536", "a b:80", ":80", "x;y:80"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="--router"):
        address(text, "--router")


def test_addresses() -> None:
    assert address("[2001:db8::5]:8081", "--router") == Address("2001:db8::5", 8081)
    assert str(Address("2001:db8::5", 8081)) == "[2001:db8::5]:8081"
    assert listen_address("8080") == Address("", 8080)
    assert listen_address("127.0.0.1:80") == Address("127.0.0.1", 80)
