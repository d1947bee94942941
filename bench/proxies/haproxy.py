"""HAProxy as a peer: one thread, the router's headers, the router's log line on standard output (a file).

HAProxy has no buffered log to a file: each line is one write, about 2 µs of its system time.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import find
from .base import APP_ID, INSTANCE_ID, INSTANCE_INDEX, Place, Running, serving

CONFIG = """\
global
  nbthread 1
  maxconn 4096
  log stdout len 4096 format raw local0

defaults
  mode http
  log global
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
  log-format '%[var(txn.host)] - [%tr] "%HM %HU %HV" %ST %U %B "%[var(txn.referer)]" "%[var(txn.agent)]" \
"%ci:%cp" "%si:%sp" x_forwarded_for:"%[var(txn.forwarded)]" x_forwarded_proto:"http" \
vcap_request_id:"%[var(txn.id)]" response_time:%Ta gorouter_time:%Tr \
app_id:"{app}" app_index:"{index}" \
instance_id:"{instance}" x_cf_routererror:"-"'

frontend front
  bind 127.0.0.1:{port}{tls}
  option forwardfor
  http-request set-var(txn.id) uuid()
  http-request set-var(txn.host) req.hdr(host)
  http-request set-var(txn.referer) req.hdr(referer)
  http-request set-var(txn.agent) req.hdr(user-agent)
  http-request set-var(txn.forwarded) src
  http-request set-header X-Forwarded-Proto http unless {{ req.hdr(X-Forwarded-Proto) -m found }}
  http-request set-header X-Request-Start %[date(0,ms)] unless {{ req.hdr(X-Request-Start) -m found }}
  http-request set-header X-Vcap-Request-Id %[var(txn.id)]
  http-request set-header X-CF-ApplicationID {app}
  http-request set-header X-CF-InstanceID {instance}
  http-request set-header X-CF-InstanceIndex {index}
  http-response set-header X-Vcap-Request-Id %[var(txn.id)]
  default_backend back

backend back
  server one 127.0.0.1:{backend} pool-max-conn 256 pool-purge-delay 1h
"""


@contextmanager
def start(place: Place) -> Iterator[Running]:
    """HAProxy with the router's headers and access log."""
    program = find("haproxy", "apt-get install haproxy")
    path = place.directory / "haproxy.cfg"
    path.write_text(
        CONFIG.format(
            port=place.port,
            backend=place.backend,
            app=APP_ID,
            instance=INSTANCE_ID,
            index=INSTANCE_INDEX,
            tls=f" ssl crt {place.tls}/pair.pem alpn h2,http/1.1" if place.tls is not None else "",
        )
    )
    log = place.directory / f"{place.directory.name}.out"
    with serving([program, "-db", "-f", str(path)], place, log) as running:
        yield running
