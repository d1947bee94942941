"""nginx as a peer, in two forms: plain, and with the router's headers and access log.

The upstream pool keeps its connections for ever. Bodies never go through a temporary file. What nginx is
spared: a table (upstream and the app's ids are constants) and log dates finer than a second.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from .. import nginx
from .base import APP_ID, INSTANCE_ID, INSTANCE_INDEX, Place, Running, serving

HTTP = """
  upstream backend {{
    server 127.0.0.1:{backend};
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}
{extra}
  server {{
    listen 127.0.0.1:{port} backlog=1024{shared}{tls};
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_buffer_size 64k;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_max_temp_file_size 0;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
{headers}
    }}
    location = /ws {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection upgrade;
      proxy_set_header Upgrade $http_upgrade;
{headers}
    }}
  }}
"""

PLAIN = "  access_log off;"

LIKE_ROUTER = f"""
  map $http_x_forwarded_proto $forwarded_proto {{ default $http_x_forwarded_proto; "" $scheme; }}
  map $http_x_request_start $request_start {{ default $http_x_request_start; "" $msec; }}
  log_format router '$http_host - [$time_iso8601] "$request" $status $content_length $body_bytes_sent '
    '"$http_referer" "$http_user_agent" "$remote_addr:$remote_port" "$upstream_addr" '
    'x_forwarded_for:"$proxy_add_x_forwarded_for" x_forwarded_proto:"$forwarded_proto" '
    'vcap_request_id:"$request_id" response_time:$request_time gorouter_time:$upstream_response_time '
    'app_id:"{APP_ID}" app_index:"{INSTANCE_INDEX}" instance_id:"{INSTANCE_ID}" x_cf_routererror:"-"';
  access_log ACCESS_LOG router buffer=64k flush=1s;
"""

HEADERS = f"""\
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $forwarded_proto;
      proxy_set_header X-Request-Start $request_start;
      proxy_set_header X-Vcap-Request-Id $request_id;
      proxy_set_header X-CF-ApplicationID "{APP_ID}";
      proxy_set_header X-CF-InstanceID "{INSTANCE_ID}";
      proxy_set_header X-CF-InstanceIndex "{INSTANCE_INDEX}";
      add_header X-Vcap-Request-Id $request_id always;
"""


def _tls(place: Place) -> str:
    """What follows in the listen directive, and the lines that belong to it."""
    if place.tls is None:
        return ""
    return (
        f" ssl http2;\n    ssl_certificate {place.tls}/cert.pem;\n    ssl_certificate_key {place.tls}/key.pem;\n"
        "    ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_session_cache shared:s:10m;\n    http2_max_concurrent_streams 128"
    )


@contextmanager
def start_plain(place: Place) -> Iterator[Running]:
    """nginx that only forwards."""
    http = HTTP.format(port=place.port, backend=place.backend, extra=PLAIN, headers="", tls=_tls(place), shared="")
    with serving(nginx.command(place.directory, http), place) as running:
        yield running


@contextmanager
def start_like_router(place: Place, workers: int = 1) -> Iterator[Running]:
    """nginx with the router's headers and access log."""
    log = place.directory / "access.log"
    extra = LIKE_ROUTER.replace("ACCESS_LOG", str(log))
    shared = " reuseport" if workers > 1 else ""  # else one takes most connections: it is awake already
    parts = {"extra": extra, "headers": HEADERS, "tls": _tls(place), "shared": shared}
    http = HTTP.format(port=place.port, backend=place.backend, **parts)
    with serving(nginx.command(place.directory, http, workers=workers), place, log) as running:
        yield running
