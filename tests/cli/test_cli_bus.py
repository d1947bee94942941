"""Commands that speak on the bus, with a NATS server that lets in only who proves to be somebody."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from router.cli.main import app
from router.control.bus import survey
from router.front import members
from tests.support import certs
from tests.support.bus import nats_server, tls_options
from tests.support.nats_jwt import USER, Key, Operator
from tests.support.router import router
from tests.support.workers import TIMEOUT

ME = Key(USER)


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner(env={"COLUMNS": "200"}).invoke, app, list(arguments), prog_name="router")


async def until(true: Any) -> None:
    while not true():
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "PATIENCE", 0.1)
    monkeypatch.setattr(members, "PATIENCE", 0.1)


async def test_mutual_tls_and_credentials(tmp_path: Path) -> None:
    """By the configuration of the router, and by options."""
    operator = Operator()
    creds = str(operator.credentials(tmp_path / "router.creds"))
    leaf = certs.issued("router.test")
    leaf.private_key_pem.write_to_path(str(tmp_path / "own.key"))
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "own.pem"))
    options = tls_options(tmp_path, certs.issued("127.0.0.1"), mutual=True) + operator.server_options(tmp_path)
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "own.pem", "own.key"))
    async with nats_server(*options) as server, asyncio.timeout(TIMEOUT):
        bus = {
            "hosts": [{"hostname": "127.0.0.1", "port": server.port}],
            "credentials": creds,
            "tls_enabled": True,
            "ca_certs": ca,
            "cert_chain": cert,
            "private_key": key,
        }
        async with router(tmp_path, nats=bus) as control:
            await control.healthy()
            file = ("-c", str(tmp_path / "router.yml"))
            named = ("--nats", f"tls://127.0.0.1:{server.port}", "--tlsca", ca)
            shown = (*named, "--tlscert", cert, "--tlskey", key)
            proven = (*shown, "--creds", creds)

            assert (await run("register", "127.0.0.1:81", "a.test", *file)).exit_code == 0
            await until(lambda: "a.test" in control.registry.hosts)
            assert (await run("register", "127.0.0.1:82", "b.test", *proven)).exit_code == 0
            await until(lambda: "b.test" in control.registry.hosts)
            assert (await run("unregister", "127.0.0.1:82", "b.test", *file)).exit_code == 0
            assert (await run("unregister", "127.0.0.1:81", "a.test", *proven)).exit_code == 0
            await until(lambda: not control.registry.hosts)
            for told in (await run("fleet", "--json", *file), await run("fleet", "--json", *proven)):
                assert [each["id"] for each in json.loads(told.stdout)["routers"]] == [control.identity.id]
            told = await run("front", "nginx", *proven)
            assert (told.exit_code, f":{control.port}" in told.stdout) == (0, True)

            plain = ("--nats", f"127.0.0.1:{server.port}", "--creds", creds)
            commands = (("fleet",), ("front", "haproxy"), ("register", "127.0.0.1:81", "a.test"))
            for command, lacking in zip(commands, (shown, named, plain), strict=True):
                told = await run(*command, *lacking)
                assert (told.exit_code, told.stdout) == (1, "")
                assert "can't be reached: " in told.stderr  # the server's own reason may come too late to be read


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ('users: [{user: "u", password: "p/"}]', ("--nats", "u:p%2F@127.0.0.1:{}"), ("--nats", "u:x@127.0.0.1:{}")),
        ('token: "t0ken"', ("--nats", "nats://t0ken@127.0.0.1:{}"), ("--nats", "other@127.0.0.1:{}")),
        (
            f"users: [{{nkey: {ME.public}}}]",
            ("--nats", "127.0.0.1:{}", "--nkey", "mine"),
            ("--nats", "127.0.0.1:{}", "--nkey", "another"),
        ),
    ],
    ids=["password", "token", "nkey"],
)
async def test_other_proofs(
    rule: str, good: tuple[str, ...], bad: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").write_text(f"{ME.seed}\n")
    Path("another").write_text(Key(USER).seed)
    Path("nats.conf").write_text(f"authorization {{ {rule} }}")
    async with nats_server("-c", "nats.conf") as server:
        for proof, status in ((good, 0), (bad, 1)):
            told = await run("register", "127.0.0.1:81", "a.test", *(text.format(server.port) for text in proof))
            assert told.exit_code == status, told.stderr
            assert "t0ken" not in told.output


async def test_who_may_not_publish_is_told_so(tmp_path: Path) -> None:
    user = '{user: u, password: p, permissions: {publish: "other.>"}}'
    (tmp_path / "nats.conf").write_text(f"authorization {{ users: [{user}] }}")
    async with nats_server("-c", str(tmp_path / "nats.conf")) as server:
        told = await run("register", "127.0.0.1:81", "a.test", "--nats", f"u:p@127.0.0.1:{server.port}")
        assert told.exit_code == 1
        assert "does not take the message" in told.stderr
        assert "router.register" in told.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--nats", "http://u:secret@a"),
            "--nats: expected nats://[USER:PASSWORD@ or TOKEN@]HOST[:PORT]",
        ),
        (("--nats", "a:99999"), "--nats: expected nats://"),
        (("--nats", "a", "--creds", "absent"), "--creds: can't read absent: No such file or directory"),
        (("--nats", "a", "--nkey", "absent"), "--nkey: can't read absent: No such file or directory"),
        (("--nats", "a", "--nkey", "/dev/null", "--tlsca", "absent"), "--tlsca: can't read absent"),
        (("--nats", "a", "--tlscert", "x"), "--tlskey and --tlscert: a certificate and its key go together"),
    ],
)
async def test_options_that_are_of_no_use(options: tuple[str, ...], message: str) -> None:
    told = await run("fleet", *options)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith("router fleet: ")
    assert message in told.stderr
    assert "secret" not in told.stderr
