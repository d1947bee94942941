"""A plan as a complete nginx configuration, for nginx 1.18 and later.

nginx sees only what happens to requests: a router is left alone for some seconds after two failures, and a request that
may be repeated goes to the next one. It can't send PROXY headers to an HTTP upstream; they get `X-Forwarded-For`.
"""

from __future__ import annotations

from typing import NamedTuple

from router.front.plan import LONGEST, Plan, PlanError

HEAD = """\
# nginx before {count}. Written by `router front nginx`: change its options, not this file.

worker_processes auto;
worker_rlimit_nofile 65536;
{run_dir}
events {{
    worker_connections 16384;
}}

http {{
    server_tokens off;
    access_log off;                         # the routers log every request
"""

RUN_DIR = """\
pid "{0}/nginx.pid";
error_log "{0}/nginx.log" warn;
"""

TEMPORARY_FILES = """\
    client_body_temp_path "{0}/body";
    proxy_temp_path "{0}/proxy";
    fastcgi_temp_path "{0}/fastcgi";
    uwsgi_temp_path "{0}/uwsgi";
    scgi_temp_path "{0}/scgi";
"""

UPSTREAM = """
    # All routers know all routes, so any of them will do. One that failed twice is left alone for five seconds.
    upstream routers {{
        zone routers 256k;                  # what is known of a router is shared by all workers
        least_conn;
{servers}
        keepalive 256;                      # idle connections of each worker …
        keepalive_timeout {idle}s;              # … given up before a router closes them
        keepalive_requests 100000;
    }}
"""

SERVER_LINE = "        server {address} max_fails=2 fail_timeout=5s;"

WEBSOCKETS = """
    # Websockets keep their Upgrade; other connections to the routers are kept alive.
    map $http_upgrade $connection_to_router {
        default     "";
        ~*websocket upgrade;
    }
    map $http_upgrade $upgrade_to_router {
        default     "";
        ~*websocket $http_upgrade;
    }
"""

EDGE = """
    # Clients come straight to this front: what they claim about themselves is replaced.
"""

BEHIND_PROXY_PROTOCOL = """
    # Load balancers send the client's address in a PROXY header; what clients claim in HTTP headers is replaced.
{networks}
    real_ip_header proxy_protocol;
"""

BEHIND_BALANCER = """
    # Load balancers in these networks tell the truth about the client; what others claim is replaced.
    geo $remote_addr $from_balancer {{
        default 0;
{networks}
    }}
    map $from_balancer $forwarded_for {{
        0 $remote_addr;
        1 $proxy_add_x_forwarded_for;
    }}
    map "$from_balancer:$http_x_forwarded_proto" $forwarded_proto {{
        default                 $scheme;
        "~^1:(?<told>https?)$"  $told;
    }}
    map $from_balancer $client_cert {{
        0 "";
        1 $http_x_forwarded_client_cert;
    }}
"""

SERVER = """
    server {{
        listen {listen} default_server{flags};
{tls}\
        server_name _;

        keepalive_timeout 75s;              # longer than a load balancer before this front keeps an idle connection
        large_client_header_buffers 4 64k;
        client_max_body_size 0;             # the apps decide
        proxy_request_buffering off;        # bodies stream, both ways
        proxy_buffering off;

        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Connection $connection_to_router;
        proxy_set_header Upgrade $upgrade_to_router;
        proxy_set_header X-Forwarded-For {told.forwarded_for};
        proxy_set_header X-Forwarded-Proto {told.scheme};
        proxy_set_header X-Forwarded-Client-Cert {told.client_cert};
{router_tls}\

        proxy_connect_timeout 2s;
        proxy_read_timeout {answer}s;            # longer than the routers wait for an app, whose 504 says why
        proxy_send_timeout {answer}s;

        # The next router gets what this one could not take. Requests that change something are not repeated once sent.
        proxy_next_upstream error timeout;
        proxy_next_upstream_tries 3;
        proxy_next_upstream_timeout 10s;

        location / {{
            if ($http_upgrade ~* websocket) {{
                return 418;
            }}
            error_page 418 = @websocket;
            proxy_pass {scheme}://routers;
        }}

        location @websocket {{
            proxy_pass {scheme}://routers;
            proxy_read_timeout {longest}s;       # how long either side may be silent
            proxy_send_timeout {longest}s;
        }}
    }}
}}
"""

TLS = """\
        ssl_certificate "{plan.certificate}";
        ssl_certificate_key "{key}";
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:tls:10m;
        ssl_session_timeout 1d;
        ssl_session_tickets off;
"""

ROUTER_TLS = """\

        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate "{plan.router_ca}";
        proxy_ssl_name "{plan.router_name}";
        proxy_ssl_server_name on;
        proxy_ssl_session_reuse on;
"""


class Told(NamedTuple):
    """What routers are told about the client, as nginx's variables."""

    forwarded_for: str = "$remote_addr"
    scheme: str = "$scheme"
    client_cert: str = '""'


BELIEVED = Told("$forwarded_for", "$forwarded_proto", "$client_cert")
"""With the variables of BEHIND_BALANCER."""


def render(plan: Plan) -> str:
    """The configuration of a checked plan. Raises PlanError for what nginx can't do."""
    if plan.send_proxy:
        raise PlanError(
            "--send-proxy: nginx sends no PROXY headers to HTTP upstreams; the routers get the client's address in "
            "X-Forwarded-For. Leave it out, or use `router front haproxy`"
        )
    count = "one router" if len(plan.routers) == 1 else f"{len(plan.routers)} routers"
    listen = str(plan.listen) if plan.listen.host else str(plan.listen.port)
    flags = (" ssl http2" if plan.certificate else "") + (" proxy_protocol" if plan.accept_proxy else "")
    return "".join(
        (
            HEAD.format(count=count, run_dir=RUN_DIR.format(plan.run_dir) if plan.run_dir else ""),
            TEMPORARY_FILES.format(plan.run_dir) if plan.run_dir else "",
            UPSTREAM.format(
                servers="\n".join(SERVER_LINE.format(address=router) for router in plan.routers),
                idle=plan.idle_timeout,
            ),
            WEBSOCKETS,
            _clients(plan),
            SERVER.format(
                told=BELIEVED if plan.trusted and not plan.accept_proxy else Told(),
                listen=listen,
                flags=flags,
                tls=TLS.format(plan=plan, key=plan.key or plan.certificate) if plan.certificate else "",
                router_tls=ROUTER_TLS.format(plan=plan) if plan.router_ca else "",
                scheme="https" if plan.router_ca else "http",
                answer=plan.answer_timeout,
                longest=LONGEST,
            ),
        )
    )


def _clients(plan: Plan) -> str:
    """Who is believed about the client."""
    if plan.accept_proxy:
        networks = "\n".join(f"    set_real_ip_from {network};" for network in plan.trusted)
        return BEHIND_PROXY_PROTOCOL.format(networks=networks)
    if plan.trusted:
        return BEHIND_BALANCER.format(networks="\n".join(f"        {network} 1;" for network in plan.trusted))
    return EDGE
