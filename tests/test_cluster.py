"""Files of `make cluster` are good. That it comes up: `python -m bench.cluster --check`, half a minute of CPU."""

from __future__ import annotations

from pathlib import Path

from bench.cluster.layout import APPS, INSTANCES, ROUTERS, SERVERS, Layout
from router.config.load import load
from router.registrar.config import load as load_registrar


def test_all_files_are_good_and_fit_together(tmp_path: Path) -> None:
    layout = Layout(tmp_path, [18001, 18002])
    routers = [load(layout.router_file(number), {}) for number in range(ROUTERS)]
    assert not any(loaded.warnings for loaded in routers)
    for loaded in routers:
        assert loaded.config.nats is not None
        assert [server.port for server in loaded.config.nats.hosts] == layout.nats
    registered = []
    for app in APPS:
        config, warnings = load_registrar(str(layout.registrar_file(app)))
        assert not warnings
        registered += [route.port for route in config.routes]
    assert sorted(registered) == sorted(port for ports in layout.apps.values() for port in ports)
    assert len(registered) == len(APPS) * INSTANCES
    upstreams = [f"server 127.0.0.1:{port} " in layout.nginx_file(0).read_text() for port in layout.routers]
    assert upstreams == [True] * ROUTERS
    assert layout.nats_arguments(0)[-1].count("nats://") == SERVERS - 1
