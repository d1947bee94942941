"""A plan as a complete HAProxy configuration, for HAProxy 2.4 and later.

HAProxy asks every router for its health, so a router that drains gets no new requests from the first second on.
"""

from __future__ import annotations

from router.front.plan import LONGEST, Plan, PlanError

GLOBAL = """\
# HAProxy before {count}. Written by `router front haproxy`: change its options, not this file.

global
    log stdout format raw local0 warning        # the routers log every request
{run_dir}
defaults
    mode http
    log global
    option dontlognull
    timeout connect 2s
    timeout client 75s                          # longer than a load balancer before this front keeps an idle connection
    timeout http-request 60s
    timeout http-keep-alive 75s
    timeout server {answer:<28} # longer than the routers wait for an app, whose 504 says why
    timeout tunnel {longest:<28} # how long both sides of a websocket may be silent

frontend clients
    bind {bind}
"""

RUN_DIR = """\
    pidfile '{0}/haproxy.pid'
    stats socket '{0}/haproxy.sock' mode 600 level admin expose-fd listeners
"""

EDGE = """\
    # Clients come straight to this front: what they claim about themselves is replaced.
    http-request del-header X-Forwarded-For
    http-request del-header X-Forwarded-Client-Cert
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
"""

BEHIND_PROXY_PROTOCOL = """\
    # Load balancers in these networks send the client's address in a PROXY header.
    tcp-request connection expect-proxy layer4 if {{ src {networks} }}
"""

BEHIND_BALANCER = """\
    # Load balancers in these networks tell the truth about the client; what others claim is replaced.
    acl from_balancer src {networks}
    acl knows_scheme req.hdr(X-Forwarded-Proto) -m str http https
    http-request del-header X-Forwarded-For unless from_balancer
    http-request del-header X-Forwarded-Client-Cert unless from_balancer
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)] unless from_balancer knows_scheme
"""

BACKEND = """\
    option forwardfor
    # Requests that change something are not repeated once sent.
    http-request disable-l7-retry unless METH_GET || {{ method HEAD OPTIONS }}
    default_backend routers

# All routers know all routes, so any of them will do.
backend routers
    balance leastconn
    http-reuse aggressive
    retries 3
    retry-on conn-failure empty-response
    option redispatch 1
    option httpchk
    http-check send meth GET uri /health ver HTTP/1.1 hdr Host localhost hdr User-Agent '{user_agent}'
    http-check expect status 200
    default-server {health} observe layer4 error-limit 5 on-error mark-down
    default-server pool-purge-delay {idle}s{router_tls}{send_proxy}
{servers}
"""

HEALTH = "check inter 1s fall 2 rise 1"


def render(plan: Plan) -> str:
    """The configuration of a checked plan. Raises PlanError for what HAProxy can't do."""
    if plan.key and plan.key != f"{plan.certificate}.key":
        raise PlanError(
            f"--key {plan.key}: HAProxy reads the key from the certificate's file, or from {plan.certificate}.key; put "
            "it there and leave --key out"
        )
    count = "one router" if len(plan.routers) == 1 else f"{len(plan.routers)} routers"
    bind = str(plan.listen) if plan.listen.host else f":::{plan.listen.port} v4v6"
    if plan.certificate:
        bind += f" ssl crt '{plan.certificate}' alpn h2,http/1.1 ssl-min-ver TLSv1.2"
    return "".join(
        (
            GLOBAL.format(
                count=count,
                run_dir=RUN_DIR.format(plan.run_dir) if plan.run_dir else "",
                answer=f"{plan.answer_timeout}s",
                longest=f"{LONGEST}s",
                bind=bind,
            ),
            _clients(plan),
            BACKEND.format(
                user_agent=plan.user_agent.replace("%", "%%"),  # it is a log format
                health=_health(plan),
                idle=min(plan.idle_timeout, 60),
                router_tls=(
                    f" ssl verify required ca-file '{plan.router_ca}' sni str({plan.router_name})"
                    f" verifyhost '{plan.router_name}'"
                    if plan.router_ca
                    else ""
                ),
                send_proxy=" send-proxy-v2" if plan.send_proxy else "",
                servers="\n".join(f"    server {router.host}_{router.port} {router}" for router in plan.routers),
            ),
        )
    )


def _clients(plan: Plan) -> str:
    """Who is believed about the client."""
    networks = " ".join(plan.trusted)
    if plan.accept_proxy:
        return BEHIND_PROXY_PROTOCOL.format(networks=networks) + EDGE
    return BEHIND_BALANCER.format(networks=networks) if plan.trusted else EDGE


def _health(plan: Plan) -> str:
    """Health is asked for in the clear on the status port; on the HTTP port as requests are sent."""
    if plan.health_port:
        return (
            f"{HEALTH} port {plan.health_port} no-check-ssl" if plan.router_ca else f"{HEALTH} port {plan.health_port}"
        )
    return (
        HEALTH
        + (" check-ssl" if plan.router_ca else "")
        + (f" check-sni {plan.router_name}" if plan.router_ca else "")
        + (" check-send-proxy" if plan.send_proxy else "")
    )
