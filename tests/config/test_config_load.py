"""What loading makes of good files: values, origins, precedence, secrets, warnings, and both dialects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from router.config.bus import NatsHost
from router.config.dialects import parse_mbus
from router.config.keys import LEAVES
from router.config.known import KNOWN, NEEDLESS
from router.config.load import Loaded, load
from router.config.problems import ConfigError
from tests.support import certs

LoadText = Callable[..., Loaded]
ProblemsOf = Callable[..., list[str]]

GOROUTER_YML = """\
---
port: 8083
index: 4
zone: z1
go_max_procs: -1
trace_key: 022
debug_addr: 127.0.0.1:17002
secure_cookies: true
sticky_session_cookie_names: [JSESSIONID]
healthcheck_user_agent: HTTP-Monitor/1.1
status:
  port: 8090
  user: router-status
  pass: 007
  enable_nontls_health_checks: true
  routes: {port: 8092}
  tls: {port: 8443, certificate: CERT, key: KEY}
nats:
  hosts:
  - hostname: 10.0.0.1
    port: 4222
  - hostname: q-m3-n2.nats.bosh
    port: 4222
  user: nats
  pass: nats_password
  tls_enabled: false
  ca_certs: ""
nats_client_ping_interval: 20s
start_response_delay_interval: 20s
droplet_stale_threshold: 120s
suspend_pruning_if_nats_unavailable: on
load_balancer_healthy_threshold: 20s
balancing_algorithm: least-connection
balancing_algorithm_az_preference: none
isolation_segments: [is1, 2]
routing_table_sharding_mode: shared-and-segments
backends:
  max_attempts: 3
  max_conns: 500
empty_pool_response_code_503: true
endpoint_timeout: 900s
endpoint_dial_timeout: 5s
drain_wait: 20s
drain_timeout: 900s
disable_keep_alives: false
max_idle_conns: 100
max_idle_conns_per_host: 100
max_header_bytes: 1048576
enable_ssl: true
disable_http: false
tls_pem:
- cert_chain: CERT
  private_key: KEY
client_cert_validation: request
forwarded_client_cert: always_forward
force_forwarded_proto_https: true
extra_headers_to_log: [X-B3-TraceId]
http_rewrite:
  responses:
    remove_headers: [{name: Server}]
tracing: {enable_zipkin: true, enable_w3c: false}
access_log:
  file: /var/vcap/sys/log/gorouter/access.log
  enable_streaming: false
logging:
  level: info
  loggregator_enabled: true
  metron_address: localhost:3457
  format: {timestamp: rfc3339}
  redact_query_params: hash
  disable_log_source_ip: yes
route_services_secret: s3cret
route_services_timeout: 60s
routing_api: {uri: "", port: 0}
prometheus:
  port: 0
pid_file: /var/run/gorouter.pid
"""


@pytest.fixture(autouse=True)
def certificate_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`CERT` and `KEY` are a certificate and its key."""
    pair = certs.issued("app.test")
    pair.private_key_pem.write_to_path(str(tmp_path / "KEY"))
    pair.cert_chain_pems[0].write_to_path(str(tmp_path / "CERT"))
    monkeypatch.chdir(tmp_path)


def test_a_gorouter_yml(load_text: LoadText) -> None:
    loaded = load_text(GOROUTER_YML)
    config = loaded.config
    assert loaded.dialect == "gorouter"
    assert config.nats is not None
    assert config.nats.hosts == [NatsHost(hostname="10.0.0.1"), NatsHost(hostname="q-m3-n2.nats.bosh")]
    assert config.nats.password.get_secret_value() == "nats_password"
    assert (config.port, config.index, config.status.port, config.status.routes.port) == (8083, 4, 8090, 8092)
    assert config.trace_key == "022"
    assert config.status.password.get_secret_value() == "007"
    assert config.isolation_segments == ["is1", "2"]
    assert config.suspend_pruning_if_nats_unavailable is True
    assert config.endpoint_timeout == 900.0
    assert config.max_request_header_bytes == 1048576
    assert config.logging.disable_log_source_ip is True
    assert config.pid_file == "/var/run/gorouter.pid"
    assert loaded.origins["nats.hosts"] == "router.yml:19"
    assert loaded.origins["max_request_header_bytes"] == "router.yml:48"
    assert loaded.origins["inet"] == "default"


def test_what_a_gorouter_yml_asks_for_in_vain(load_text: LoadText) -> None:
    warnings = load_text(GOROUTER_YML).warnings
    assert [warning.path for warning in warnings] == [
        "debug_addr",
        "logging.loggregator_enabled",
        "logging.metron_address",
    ]
    assert str(warnings[0]) == (
        "router.yml:7: key 'debug_addr' is known but not supported yet: "
        "it is for the Go runtime's profiler, which is not here"
    )


CLASSIC_YML = """\
port: 2222
inet: 127.0.0.1
sock: /tmp/router.sock
mbus: nats://nats:p%40ss@10.0.0.1:4223/
log_level: DEBUG1
log_file: /tmp/router.log
pid: /var/vcap/sys/run/router.pid
local_route: 10.0.0.9
index: 1
trace_key: 22
session_key: 14fbc303b76bacd1e0a3ab641c11d11400341c5d
enable_nonprod_apps: true
flush_apps_interval: 30
404_redirect: http://www.example.com
status:
  port: 34503
  user: thin
  password: thin
  expose_all_apps: true
"""


def test_a_router_yml_of_2011(load_text: LoadText) -> None:
    loaded = load_text(CLASSIC_YML)
    config = loaded.config
    assert loaded.dialect == "classic"
    assert config.nats is not None
    assert config.nats.hosts == [NatsHost(hostname="10.0.0.1", port=4223)]
    assert (config.nats.user, config.nats.password.get_secret_value()) == ("nats", "p@ss")
    assert config.status.password.get_secret_value() == "thin"
    assert (config.inet, config.local_route, config.trace_key) == ("127.0.0.1", "10.0.0.9", "22")
    assert (config.pid_file, config.logging.level) == ("/var/vcap/sys/run/router.pid", "debug")
    assert loaded.origins["nats.hosts"] == loaded.origins["nats.user"] == "router.yml:4"
    assert [warning.path for warning in loaded.warnings] == [
        "sock",
        "log_file",
        "session_key",
        "404_redirect",
    ]
    assert config.publish_active_apps_interval == 30.0
    assert config.status.enable_deprecated_varz_healthz_endpoints is True
    assert not load_text("port: 1").config.status.enable_deprecated_varz_healthz_endpoints
    silent = "pid: x\nstatus: {enable_deprecated_varz_healthz_endpoints: false}"
    assert not load_text(silent).config.status.enable_deprecated_varz_healthz_endpoints


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("enable_nonprod_apps: true", 30.0),
        ("enable_nonprod_apps: true\nflush_apps_interval: 0.5", 0.5),
        ("enable_nonprod_apps: false\nflush_apps_interval: 10", 0.0),
        ("flush_apps_interval: 10", 0.0),
    ],
)
def test_active_apps_in_the_older_words(load_text: LoadText, text: str, interval: float) -> None:
    loaded = load_text(text)
    assert loaded.config.publish_active_apps_interval == interval
    assert not loaded.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enable_nonprod_apps: 7", "router.yml:1:22: enable_nonprod_apps: 7 given, expected true or false"),
        ("flush_apps_interval: 30s", "flush_apps_interval: 30s given, expected a number of seconds, more than 0"),
        ("flush_apps_interval: -1", "flush_apps_interval: -1 given, expected a number of seconds"),
        (
            "enable_nonprod_apps: true\npublish_active_apps_interval: 1s",
            "enable_nonprod_apps: it sets the same as `publish_active_apps_interval`",
        ),
    ],
)
def test_active_apps_that_make_no_sense(load_text: LoadText, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    (problem,) = caught.value.problems
    assert message in str(problem)


@pytest.mark.parametrize(
    ("value", "hosts", "user", "password"),
    [
        ("nats://localhost:4222", [("localhost", 4222)], "", ""),
        ("nats://a", [("a", 4222)], "", ""),
        ("nats://a/, nats://u:p@b:1", [("a", 4222), ("b", 1)], "u", "p"),
        (["nats://u:p@a", "nats://u:p@b"], [("a", 4222), ("b", 4222)], "u", "p"),
        ("nats://u%3a:%2F@[::1]:9", [("::1", 9)], "u:", "/"),
        ("nats://token@a", [("a", 4222)], "token", ""),
    ],
)
def test_mbus(value: object, hosts: list[tuple[str, int]], user: str, password: str) -> None:
    bus = parse_mbus(value)
    assert [tuple(host.values()) for host in bus.hosts] == hosts
    assert (bus.user, bus.password) == (user, password)
    assert not bus.tls


def test_an_mbus_with_tls(load_text: LoadText) -> None:
    config = load_text("mbus: tls://u:p@a:1").config
    assert config.nats is not None
    assert (config.nats.tls_enabled, config.nats.user, config.nats.hosts[0].port) == (True, "u", 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("localhost:4222", r"nats://\[USER:PASSWORD@\]HOST\[:PORT\], .*, other characters percent-encoded"),
        ("nats://", "HOST"),
        ("nats://a:99999", "a port from 1 to 65535"),
        ("nats://[a", "HOST"),
        ("http://a", "tls:// for TLS"),
        ("tls://a, nats://b", "either nats:// or tls:// for all servers"),
        ("nats://u:p@a,nats://v:p@b", "the same user and password for all servers"),
        ([], "or a list of these"),
        ([1], "or a list of these"),
        (7, "or a list of these"),
    ],
)
def test_not_an_mbus(value: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_mbus(value)


@pytest.mark.parametrize(
    ("text", "level"),
    [("off", "fatal"), ("warning", "warn"), ("INFO", "info"), ("debug2", "debug"), ("all", "debug")],
)
def test_older_log_levels(load_text: LoadText, text: str, level: str) -> None:
    assert load_text(f"logging: {{level: {text}}}").config.logging.level == level


@pytest.mark.parametrize("key", sorted(KNOWN))
def test_known_keys_warn_once_unless_they_are_off(load_text: LoadText, key: str) -> None:
    *parents, name = key.split(".")
    text = "".join(f"{'  ' * depth}{parent}:\n" for depth, parent in enumerate(parents))
    text += "  " * len(parents) + name + ": "
    (warning,) = load_text(text + "something").warnings
    assert warning.path == key
    assert f"router.yml:{len(parents) + 1}: key '{key}' is known but not supported yet: " in str(warning)
    for off in ("false", "0", "-1", "", "''", "[]", "none", "null", "0s"):
        assert not load_text(text + off).warnings


@pytest.mark.parametrize("key", sorted(NEEDLESS))
def test_keys_that_are_not_needed_warn_of_nothing(load_text: LoadText, key: str) -> None:
    assert not load_text(f"{key}: something").warnings


def test_nanoseconds(load_text: LoadText) -> None:
    loaded = load_text("endpoint_timeout: 60\nempty_pool_timeout: 0\nread_header_timeout: 5000000000")
    assert loaded.config.endpoint_timeout == pytest.approx(60e-9)
    assert loaded.config.read_header_timeout == 5.0
    (warning,) = map(str, loaded.warnings)
    assert warning == "router.yml:1: `endpoint_timeout`: 60 means 60 nanoseconds; write 60s for seconds"


def test_the_stale_threshold_is_raised_to_the_start_delay(load_text: LoadText) -> None:
    loaded = load_text("start_response_delay_interval: 3m")
    assert loaded.config.droplet_stale_threshold == 180.0
    assert loaded.origins["droplet_stale_threshold"] == "raised to start_response_delay_interval (router.yml:1)"
    (warning,) = map(str, loaded.warnings)
    assert warning == "router.yml:1: `droplet_stale_threshold` is raised to `start_response_delay_interval`, 3m"


def test_precedence(load_text: LoadText) -> None:
    environ = {"ROUTER__PORT": "2", "ROUTER__INDEX": "2", "ROUTER__STATUS__USER": "env"}
    loaded = load_text("port: 1\nindex: 1\nstatus: {user: file, port: 1}", environ, port=3, inet=None)
    config, origins = loaded.config, loaded.origins
    assert (config.port, config.index, config.status.user, config.status.port) == (3, 2, "env", 1)
    assert origins["port"] == "flag"
    assert origins["index"] == "environment ROUTER__INDEX"
    assert origins["status.user"] == "environment ROUTER__STATUS__USER"
    assert origins["status.port"] == "router.yml:3"
    assert origins["inet"] == "default"


BUSES = [
    ("nats: null", {}, None),
    ("nats: null", {"ROUTER__NATS__HOSTS": "[{hostname: e}]"}, (["e"], "", "")),
    ("nats: {user: u}", {"ROUTER__NATS": "null"}, None),
    ("nats: {user: u}", {"ROUTER__NATS": "{hosts: [{hostname: e}]}"}, (["e"], "u", "")),
    ("nats: {user: u, pass: p}", {"ROUTER__MBUS": "nats://e"}, (["e"], "", "")),
    ("nats: {user: u, pass: p}", {"ROUTER__MBUS": "nats://v:q@e,nats://f"}, (["e", "f"], "v", "q")),
    ("mbus: nats://u:p@f", {"ROUTER__NATS__PASS": "q: # '"}, (["f"], "u", "q: # '")),
    ("mbus: nats://f\nnats: {user: u}", {}, (["f"], "u", "")),
    ("nats: ", {}, None),
]


@pytest.mark.parametrize(("text", "environ", "bus"), BUSES)
def test_the_bus(
    load_text: LoadText, text: str, environ: dict[str, str], bus: tuple[list[str], str, str] | None
) -> None:
    loaded = load_text(text, environ)
    nats = loaded.config.nats
    assert bus == (
        None if nats is None else ([host.hostname for host in nats.hosts], nats.user, nats.password.get_secret_value())
    )
    assert ("nats" in loaded.origins) is (bus is None)


ENVIRONMENT: list[tuple[dict[str, str], str, object]] = [
    ({"ROUTER__ENDPOINT_TIMEOUT": "90s"}, "endpoint_timeout", "1m30s"),
    ({"ROUTER__endpoint_timeout": "90s"}, "endpoint_timeout", "1m30s"),
    ({"ROUTER__DISABLE_KEEP_ALIVES": "yes"}, "disable_keep_alives", True),
    ({"ROUTER__ISOLATION_SEGMENTS": "[a, 007]"}, "isolation_segments", ["a", "007"]),
    ({"ROUTER__NATS__HOSTS": "[{hostname: a, port: 1}]"}, "nats.hosts", [{"hostname": "a", "port": 1}]),
    ({"ROUTER__STATUS__PASSWORD": "x"}, "status.pass", "***"),
    ({"ROUTER__PID_FILE": "/run/pid"}, "pid_file", "/run/pid"),
    ({"ROUTER__LOGGING__LEVEL": "INFO"}, "logging.level", "info"),
    ({"ROUTER__TRACE_KEY": "[a"}, "trace_key", "[a"),
    ({"ROUTER__TRACE_KEY": ""}, "trace_key", ""),
    ({"ROUTER__PORT": ""}, "port", 8081),
    ({"ROUTER__ENDPOINT_TIMEOUT": ""}, "endpoint_timeout", "1m"),
    ({"ROUTER_PORT": "1", "ROUTERS__X": "1", "HOME": "/"}, "port", 8081),
]


@pytest.mark.parametrize(("environ", "key", "value"), ENVIRONMENT)
def test_environment(environ: dict[str, str], key: str, value: object) -> None:
    loaded = load(None, environ)
    assert LEAVES[key].shown_in(loaded.config) == value
    assert loaded.file is None


def test_a_known_variable_warns() -> None:
    (warning,) = map(str, load(None, {"ROUTER__GO_MAX_PROCS": "3"}).warnings)
    assert warning.startswith("environment ROUTER__GO_MAX_PROCS: key 'go_max_procs' is known but not supported yet")


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"ROUTER__PRT": "1"},
            "environment ROUTER__PRT: prt: there is no such key (did you mean `ROUTER__PORT`?)",
        ),
        ({"ROUTER__QQQQ": "1"}, "environment ROUTER__QQQQ: qqqq: there is no such key"),
        (
            {"ROUTER__PORT": "x"},
            "environment ROUTER__PORT: port: x given, expected a port number, 0 to 65535",
        ),
        (
            {"ROUTER__ISOLATION_SEGMENTS": "[a"},
            "environment ROUTER__ISOLATION_SEGMENTS: isolation_segments: not valid YAML: "
            "while parsing a flow sequence, did not find expected ',' or ']'",
        ),
        (
            {"ROUTER__STATUS": "{port: 1, port: 2}"},
            "environment ROUTER__STATUS: status.port: it is already given (keep one of the two)",
        ),
        (
            {"ROUTER__NATS__PASS_FILE": "/nowhere"},
            "environment ROUTER__NATS__PASS_FILE: nats.pass: the file it names cannot be read: "
            "No such file or directory",
        ),
        (
            {"ROUTER__INET": "a b"},
            'environment ROUTER__INET: inet: "a b" given, expected an IP address or host name',
        ),
    ],
)
def test_problems_in_the_environment(environ: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    assert list(map(str, caught.value.problems)) == [line]


def test_secrets_from_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p: 'w\n")
    (tmp_path / "hosts").write_text("- hostname: a\n- hostname: b\n")
    environ = {
        "ROUTER__NATS__PASS_FILE": str(tmp_path / "secret"),
        "ROUTER__NATS__HOSTS_FILE": str(tmp_path / "hosts"),
    }
    loaded = load(None, environ)
    assert loaded.config.nats is not None
    assert loaded.config.nats.password.get_secret_value() == "p: 'w"
    assert [host.hostname for host in loaded.config.nats.hosts] == ["a", "b"]
    assert loaded.origins["nats.pass"] == "environment ROUTER__NATS__PASS_FILE"

    with pytest.raises(ConfigError, match="it sets the same as"):
        load(None, environ | {"ROUTER__NATS__PASS": "x"})


def test_the_file_of_the_classic_directory(tmp_path: Path) -> None:
    (tmp_path / "router.yml").write_text("port: 7")
    loaded = load(None, {"CLOUD_FOUNDRY_CONFIG_PATH": str(tmp_path)})
    assert (loaded.config.port, loaded.file) == (7, str(tmp_path / "router.yml"))


def test_flags_are_checked_too(problems_of: ProblemsOf) -> None:
    assert problems_of("", port=70000, prot=1) == [
        "flag: prot: there is no such key (did you mean `port`?)",
        "flag: port: 70000 given, expected a port number, 0 to 65535",
    ]
