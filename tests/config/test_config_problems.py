"""Texts and the problems they have: one table, each row a text and all the lines it draws."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.cli.check import report
from router.config.document import MAX_BYTES, MAX_DEPTH
from router.config.keys import LEAVES
from router.config.kinds import strategies
from router.config.load import Loaded, load
from router.config.problems import ConfigError

LoadText = Callable[..., Loaded]
ProblemsOf = Callable[..., list[str]]

PROBLEMS: list[tuple[str, list[str]]] = [
    # wrong values
    ("port: 70000", ["router.yml:1:7: port: 70000 given, expected a port number, 0 to 65535"]),
    ('port: "80"', ['router.yml:1:7: port: "80" given, expected a port number, 0 to 65535']),
    ("port: yes", ["router.yml:1:7: port: yes given, expected a port number, 0 to 65535"]),
    ("port: 80.5", ["router.yml:1:7: port: 80.5 given, expected a port number, 0 to 65535"]),
    ("port: [80]", ["router.yml:1:7: port: a list given, expected a port number, 0 to 65535"]),
    ("port: !!int x", ["router.yml:1:7: port: x given, expected a port number, 0 to 65535"]),
    ("inet: 1.2.3", ["router.yml:1:7: inet: 1.2.3 given, expected an IP address or host name"]),
    ("local_route: here", ["router.yml:1:14: local_route: here given, expected an IP address"]),
    ("workers: -1", ["router.yml:1:10: workers: -1 given, expected `auto` or a whole number, 0 or more"]),
    ("workers: on", ["router.yml:1:10: workers: on given, expected `auto` or a whole number, 0 or more"]),
    ("index: 2024-01-01", ["router.yml:1:8: index: 2024-01-01 given, expected a whole number, 0 or more"]),
    (
        "backends:\n  max_conns: -1",
        ["router.yml:2:14: backends.max_conns: -1 given, expected a whole number, 0 or more"],
    ),
    (
        "empty_pool_response_code_503: 'true'",
        ['router.yml:1:31: empty_pool_response_code_503: "true" given, expected true or false'],
    ),
    (
        "endpoint_dial_timeout: 5 s",
        ["router.yml:1:24: endpoint_dial_timeout: 5 s given, expected a duration such as 30s, 1m30s or 500ms"],
    ),
    (
        "load_balancer_healthy_threshold: -1s",
        [
            "router.yml:1:34: load_balancer_healthy_threshold: -1s given, "
            "expected a duration such as 30s, 1m30s or 500ms, 0 or more"
        ],
    ),
    (
        "balancing_algorithm: fastest",
        [
            "router.yml:1:22: balancing_algorithm: fastest given, expected one of "
            + ", ".join(f"`{name}`" for name in strategies())
        ],
    ),
    (
        "balancing_algorithm: hash",
        [
            "router.yml:1:22: balancing_algorithm: hash given, expected `hash` with single routes only, "
            "whose `hash_header` it needs; `consistent-hash` is for all"
        ],
    ),
    (
        "hash_key: moon",
        [
            "router.yml:1:11: hash_key: moon given, expected `client_address`, `path`, `header:NAME`, `cookie:NAME` "
            "or `query:NAME`"
        ],
    ),
    ("hash_balance: 0.5", ["router.yml:1:15: hash_balance: 0.5 given, expected 0, or a number of 1 or more"]),
    (
        "routing_table_sharding_mode: some",
        [
            "router.yml:1:30: routing_table_sharding_mode: some given, "
            "expected `all`, `segments` or `shared-and-segments`"
        ],
    ),
    (
        "extra_headers_to_log: [Accept, 'a b']",
        ['router.yml:1:32: extra_headers_to_log[1]: "a b" given, expected a header name'],
    ),
    ("isolation_segments: a", ["router.yml:1:21: isolation_segments: a given, expected a list of texts"]),
    (
        'trace_key: "a\\nb"',
        ['router.yml:1:12: trace_key: "a\N{REPLACEMENT CHARACTER}b" given, expected text on one line'],
    ),
    (
        "logging: {level: loud}",
        ["router.yml:1:18: logging.level: loud given, expected `debug`, `info`, `warn`, `error` or `fatal`"],
    ),
    (
        "status:\n- 1",
        ["router.yml:1:1: status: a list given, expected the keys of `status`, indented below it"],
    ),
    ("hello", ["router.yml:1:1: a single value given, expected keys and values"]),
    # inside a list
    (
        "nats:\n  hosts:\n  - {hostname: a, port: 0}\n  - hostnam: b",
        [
            "router.yml:3:25: nats.hosts[0].port: 0 given, expected a port number, 1 to 65535",
            "router.yml:4:5: nats.hosts[1].hostname: it is missing, expected an IP address or host name",
            "router.yml:4:14: nats.hosts[1].hostnam: there is no such key (did you mean `hostname`?)",
        ],
    ),
    (
        "nats: {hosts: []}",
        ["router.yml:1:15: nats.hosts: a list given, expected a list of servers, each with `hostname` and `port`"],
    ),
    # unknown keys
    ("prt: 1", ["router.yml:1:1: prt: there is no such key (did you mean `port`?)"]),
    ("user: x", ["router.yml:1:1: user: there is no such key (did you mean `nats.user` or `status.user`?)"]),
    (
        "status:\n  max_conns: 1",
        ["router.yml:2:3: status.max_conns: there is no such key (did you mean `backends.max_conns`?)"],
    ),
    (
        "default_balancing_algorithm: x",
        ["router.yml:1:1: default_balancing_algorithm: there is no such key (did you mean `balancing_algorithm`?)"],
    ),
    ("enabel_ssl: true", ["router.yml:1:1: enabel_ssl: there is no such key (did you mean `enable_ssl`?)"]),
    ("status: {<<: 3}", ["router.yml:1:10: status.<<: there is no such key"]),
    ("? [a]\n: b", ["router.yml:1:3: a list: there is no such key"]),
    ("zzzzzz: {a: 1}", ["router.yml:1:1: zzzzzz: there is no such key"]),
    # duplicates and two names for one thing
    ("port: 1\nport: 2", ["router.yml:2:1: port: it is already given in line 1 (keep one of the two)"]),
    (
        "status:\n  port: 1\n  port: 1",
        ["router.yml:3:3: status.port: it is already given in line 2 (keep one of the two)"],
    ),
    (
        "pid: a\npid_file: b",
        ["router.yml:2:1: pid_file: it sets the same as `pid` (router.yml:1) (keep one of the two)"],
    ),
    (
        "nats:\n  hosts: [{hostname: a}]\nmbus: nats://b",
        ["router.yml:3:1: mbus: it sets the same as `nats.hosts` (router.yml:2) (keep one of the two)"],
    ),
    (
        "mbus: nats://u:p@b\nnats:\n  user: v",
        ["router.yml:1:1: mbus: it sets the same as `nats.user` (router.yml:3) (keep one of the two)"],
    ),
    (
        "mbus: nats://b\nnats: null",
        ["router.yml:1:1: mbus: it sets the same as `nats` (router.yml:2) (keep one of the two)"],
    ),
    # settings that do not go together
    (
        "routing_table_sharding_mode: segments",
        [
            "router.yml:1:30: routing_table_sharding_mode: `segments` with no `isolation_segments` would "
            "keep no route at all (name the segments in `isolation_segments`, or use `all`)"
        ],
    ),
    (
        "routes: [{uris: [a.test], endpoints: [{host: h, port: 1}], route_service_url: 'https://s/'}]",
        [
            "router.yml:1:9: routes: a.test has a `route_service_url`, and without a secret all its requests would be "
            "refused (give `route_services_secret`, the same on every router, or take the URL away)"
        ],
    ),
    (
        "status: {enable_nontls_health_checks: false}",
        [
            "router.yml:1:39: status.enable_nontls_health_checks: false would leave no health endpoint "
            "(leave it true, or give `status.tls` a certificate)"
        ],
    ),
    (
        "status: {tls: {port: 443}}",
        [
            "router.yml:1:22: status.tls.port: nobody listens there without a certificate "
            "(give `status.tls.certificate` and `status.tls.key`)"
        ],
    ),
    (
        "status: {tls: {certificate: x.pem}}",
        [
            "router.yml:1:29: status.tls.key: a certificate and its key go together (give `status.tls.key` too)",
        ],
    ),
    # the text as a whole
    ("a: b: c", ["router.yml:1:5: not valid YAML: mapping values are not allowed in this context"]),
    (
        "port: 1\n---\nport: 2",
        ["router.yml:2:1: expected one YAML document (remove this `---` and what follows)"],
    ),
    ("port: \x01", ["router.yml:1:7: not valid YAML: control characters are not allowed"]),
    (
        "trace_key: *star",
        [
            "router.yml:1:12: this alias names nothing defined above it "
            "(put the value in quotes if it is meant to begin with `*`)"
        ],
    ),
]


@pytest.mark.parametrize(("text", "lines"), PROBLEMS, ids=[text[:30] for text, _ in PROBLEMS])
def test_problems(problems_of: ProblemsOf, text: str, lines: list[str]) -> None:
    assert problems_of(text) == lines


def test_all_problems_at_once_in_the_order_of_the_file(problems_of: ProblemsOf) -> None:
    text = "port: x\nprt: 1\nstatus: {port: -1}\nport: 2\nrouting_table_sharding_mode: segments\nindex: -1\n"
    lines = problems_of(text, {"ROUTER__WORKERS": "-1"})
    assert [line.split(": ")[0] for line in lines] == [
        "router.yml:1:7",
        "router.yml:2:1",
        "router.yml:3:16",
        "router.yml:4:1",
        "router.yml:5:30",
        "router.yml:6:8",
        "environment ROUTER__WORKERS",
    ]


def test_cross_checks_wait_for_the_values_they_need(problems_of: ProblemsOf) -> None:
    lines = problems_of("routing_table_sharding_mode: segments\nisolation_segments: a")
    assert lines == ["router.yml:2:21: isolation_segments: a given, expected a list of texts"]


BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcdef", "bcdefg", strict=True)
)
UNBOUNDED = {
    "aliases": (BOMB, "router.yml:5:"),
    "nesting": ("[" * (MAX_DEPTH + 1), "router.yml:1:"),
    "nesting for the stack": ("[" * 500_000, "router.yml:1:"),
    "nesting by aliases": (
        "".join(f"k{n}: &a{n} [{f'*a{n - 1}' if n else ''}]\n" for n in range(1000)),
        "router.yml:",
    ),
    "self": ("a: &a [*a]", "router.yml:1:8: this alias names nothing defined above it"),
    "self, redefined": ("b: &a 1\na: &a [*a]", "router.yml:2:8: this alias names nothing defined above it"),
    "size": ("# " + "x" * MAX_BYTES, "router.yml: expected a file of at most 1024 KiB"),
}


@pytest.mark.parametrize(("text", "beginning"), UNBOUNDED.values(), ids=UNBOUNDED)
def test_what_would_grow_is_refused(problems_of: ProblemsOf, text: str, beginning: str) -> None:
    (line,) = problems_of(text)
    assert line.startswith(beginning)


def test_aliases_and_merges_within_bounds(load_text: LoadText) -> None:
    text = "status: &credentials {user: u, pass: p}\nnats:\n  <<: *credentials\n  user: v\n"
    config = load_text(text).config
    assert config.nats is not None
    assert (config.nats.user, config.nats.password.get_secret_value()) == ("v", "p")


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "null", "{}", "status:\n", "status: {port: }\nlogging: ~"]
)
def test_nothing_given_is_the_defaults(load_text: LoadText, text: str) -> None:
    loaded = load_text(text)
    assert loaded.config == load(None, {}).config
    assert set(loaded.origins.values()) == {"default"}


def test_a_file_that_cannot_be_read(tmp_path: object) -> None:
    for path, why in [
        (f"{tmp_path}/none.yml", "No such file or directory"),
        (str(tmp_path), "Is a directory"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        (problem,) = caught.value.problems
        assert str(problem) == f"{path}: cannot be read: {why} (name the file with -c FILE)"


def test_text_that_is_not_utf8(tmp_path: object) -> None:
    path = f"{tmp_path}/latin.yml"
    with open(path, "wb") as file:
        file.write(b"port: 1\ntrace_key: \xe9")
    with pytest.raises(ConfigError, match=r"latin\.yml:2:12: expected UTF-8 text"):
        load(path, {})


def test_the_fields_of_a_problem(problems_of: ProblemsOf, load_text: LoadText) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("\nport: x")
    (problem,) = caught.value.problems
    assert problem.as_json() == {
        "file": "router.yml",
        "line": 2,
        "column": 7,
        "path": "port",
        "value": "x",
        "expected": "a port number, 0 to 65535",
        "hint": "",
    }


SECRET = "hunter2"
LEAKS = [
    f"status:\n  pass: [{SECRET}]",
    f"status:\n  pass: {{{SECRET}: x}}",
    f"status:\n  passwrd: {SECRET}",
    f"password: {SECRET}",
    f"nats: nats://u:{SECRET}@h",
    f"nats: {{hosts: 'nats://u:{SECRET}@h'}}",
    f"nats: {{hosts: [{{hostname: 'u:{SECRET}@h'}}]}}",
    f"nats: {{hosts: [{{hostname: h, pass: {SECRET}}}]}}",
    f"mbus: nats://u:{SECRET}@h:99999",
    f"mbus: nats://u:{SECRET}/x@h",
    f"mbus: nats://u:{SECRET}@-h",
    f"mbus: [nats://u:{SECRET}@h, nats://v:{SECRET}@h]",
    f"mbus: {{{SECRET}: x}}",
    f"status: {{pass: *{SECRET}}}",
    f"nats: {{pass: !{SECRET} [x]}}",
    f"nats: {{pass: {SECRET}\nuser: [",
    f"route_services_secret: {SECRET}\nsession_key: {SECRET}\noauth: {{client_secret: {SECRET}}}\nport: x",
]


@pytest.mark.parametrize("text", LEAKS)
def test_no_message_shows_a_secret(load_text: LoadText, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    assert SECRET not in "".join(map(str, [*caught.value.problems, *caught.value.warnings, caught.value]))


KEYS = st.sampled_from([*LEAVES, "nats", "status", "mbus", "pid", "enable_ssl", "oauth", "prt", "a.b"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@given(
    st.dictionaries(KEYS, VALUES, max_size=4),
    st.dictionaries(KEYS, st.text("[]{}:,&*!'a1 ", max_size=8), max_size=2),
)
def test_any_values_load_or_are_problems(values: dict[str, object], variables: dict[str, str]) -> None:
    nested: dict[str, object] = {}
    for key, value in values.items():
        *parents, name = key.split(".")
        section = nested
        for parent in parents:
            below = section.setdefault(parent, {})
            section = below if isinstance(below, dict) else {}
        section[name] = value
    environ = {f"ROUTER__{key.upper().replace('.', '__')}": text for key, text in variables.items()}
    load_bytes(yaml.safe_dump(nested, allow_unicode=True).encode("utf-8", "surrogatepass"), environ)


@given(st.binary(max_size=40) | st.text("ab:-[]{}&*!<'\"#\n\t |>?%@0", max_size=40).map(str.encode))
def test_any_bytes_load_or_are_problems(data: bytes) -> None:
    load_bytes(data, {})


def load_bytes(data: bytes, environ: dict[str, str]) -> None:
    """Load `data`; any error but a report of problems is a failure."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            load(file.name, environ)
        except ConfigError as error:
            report(error, io.StringIO())
