"""Files of deploy/: read by the programs they are for, where those are here, and true to this router.

Images are not built and manifests not applied: there is no Docker daemon and no cluster where the tests run.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router.cli.main import app
from router.config.load import load
from router.control.lifecycle import SIGNALS, Order
from router.front import nginx
from router.front.plan import Address, Plan
from tests.support.programs import find, needs

DEPLOY = Path(__file__).parents[1] / "deploy"
UNIT = (DEPLOY / "router.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose/compose.yml").read_text())
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes.yml").read_text()))


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_drain_is_the_stop_signal_everywhere() -> None:
    assert SIGNALS["nginx"][signal.SIGQUIT] is Order.DRAIN
    assert "\nKillSignal=SIGQUIT\n" in UNIT
    assert "\nSTOPSIGNAL SIGQUIT\n" in DOCKERFILE


@needs("systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "router"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "router.service"
    unit.write_text(UNIT.replace("/opt/router/bin/router", str(program)))
    version = int(run("systemd-analyze", "--version").split()[1])
    complaints = run("systemd-analyze", "verify", "--man=no", str(unit)).splitlines()
    if version < 253:
        complaints = [line for line in complaints if "notify-reload" not in line]  # the unit says what to do
    assert complaints == []


@needs("logrotate")
def test_logrotate_takes_its_file(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert "error" not in run(find("logrotate") or "", "-d", "-s", str(state), str(DEPLOY / "logrotate"))


def test_the_image_is_not_root_and_lacks_nothing() -> None:
    lines = DOCKERFILE.splitlines()
    assert "USER 10001" in lines
    taken = {name for line in lines if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]}
    root = DEPLOY.parent
    assert all((root / name).exists() for name in taken)
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    assert taken == kept


def test_the_image_asks_for_its_health_by_our_own_command() -> None:
    (line,) = [line.strip() for line in DOCKERFILE.splitlines() if line.startswith("    CMD ")]
    _, *command = json.loads(line.removeprefix("CMD "))
    told = CliRunner().invoke(app, [*command[:-1], "http://127.0.0.1:1"], prog_name="router")
    assert command[-1] == "http://127.0.0.1:8080"
    assert (told.exit_code, "does not answer at http://127.0.0.1:1" in told.stderr) == (1, True)


def configurations() -> list[Any]:
    told = next(each for each in KUBERNETES if each["kind"] == "ConfigMap")["data"]["router.yml"]
    return [
        pytest.param((DEPLOY / "compose/router.yml").read_text(), id="compose"),
        pytest.param(told, id="kubernetes"),
    ]


@pytest.mark.parametrize("text", configurations())
def test_configurations_are_good_and_drain_in_time(text: str, tmp_path: Path) -> None:
    file = tmp_path / "router.yml"
    file.write_text(text)
    loaded = load(file, {})
    assert not loaded.warnings
    config = loaded.config
    assert config.signals == "nginx"
    assert config.status.port == 8080
    pod = next(each for each in KUBERNETES if each["kind"] == "Deployment")["spec"]["template"]["spec"]
    patience = min(pod["terminationGracePeriodSeconds"], int(COMPOSE["x-router"]["stop_grace_period"].rstrip("s")))
    assert config.drain_wait + config.effective_drain_timeout < patience


def test_compose_has_a_cluster_three_routers_and_nginx() -> None:
    services = COMPOSE["services"]
    assert sorted(services) == ["front", "nats-1", "nats-2", "nats-3", "router-1", "router-2", "router-3"]
    for name in ("nats-1", "nats-2", "nats-3"):
        others = {f"nats://{other}:6222" for other in ("nats-1", "nats-2", "nats-3") if other != name}
        assert set(services[name]["command"][-1].split(",")) == others
    assert services["router-1"]["build"]["dockerfile"] == "deploy/Dockerfile"
    routers = tuple(Address(f"router-{number}", 8081) for number in (1, 2, 3))
    assert (DEPLOY / "compose/nginx.conf").read_text() == nginx.render(Plan(routers=routers)), "make it anew"


def test_kubernetes_objects_belong_together() -> None:
    kinds = {each["kind"]: each for each in KUBERNETES}
    assert sorted(kinds) == ["ConfigMap", "Deployment", "PodDisruptionBudget", "Service"]
    pod = kinds["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert kinds["Service"]["spec"]["selector"] == labels
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    (container,) = pod["spec"]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["spec"]["volumes"]
    }
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8081, "status": 8080}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "status"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "status"}
    assert pod["spec"]["securityContext"]["runAsUser"] == 10001
