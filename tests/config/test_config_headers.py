"""Settings of error pages, header rules and traces: what is refused, and what a worker gets of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from router.config.load import Loaded
from router.control.settings import worker_settings

LoadText = Callable[..., Loaded]
ProblemsOf = Callable[..., list[str]]

REFUSED = [
    ("html_error_template_file: nowhere.html", "the template can't be read: No such file or directory"),
    ("html_error_template_file: bad.html", "the template can't be used: line 2: `{{.Nope}}`: `.Nope` is not known"),
    ("html_error_template_file: latin.html", "the template is not UTF-8 text"),
    ("http_rewrite: {responses: {remove_headers: [{name: Content-Length}]}}", "does not frame the message"),
    ("http_rewrite: {responses: {add_headers_if_not_present: [{name: Date, value: x}]}}", "does not frame the message"),
    ("http_rewrite: {responses: {add_headers_if_not_present: [{name: A b, value: x}]}}", "a header name"),
    ('http_rewrite: {responses: {add_headers_if_not_present: [{name: A, value: "x\\r\\ny"}]}}', "text on one line"),
    ("tracing: {w3c_tenant_id: A=b}", "a tenant id of `tracestate`"),
]


@pytest.mark.parametrize(("text", "problem"), REFUSED)
def test_refused(problems_of: ProblemsOf, text: str, problem: str) -> None:
    Path("bad.html").write_text("<h1>\n{{.Nope}}</h1>")
    Path("latin.html").write_bytes(b"\xe4")
    (found,) = problems_of(text)
    assert problem in found


def test_what_a_worker_gets(load_text: LoadText) -> None:
    Path("page.html").write_text("<h1>{{.Status}}</h1>")
    config = load_text(
        "html_error_template_file: page.html\n"
        "http_rewrite: {responses: {add_headers_if_not_present: [{name: A, value: b}], remove_headers: [{name: C}]}}\n"
        "tracing: {enable_zipkin: true, enable_w3c: true, w3c_tenant_id: t}\n"
        "max_idle_conns: 3\n"
    ).config
    settings = worker_settings(config, "10.0.0.1")
    assert settings.html_error_template == "<h1>{{.Status}}</h1>"
    assert settings.add_response_headers == (("A", "b"),)
    assert settings.remove_response_headers == ("C",)
    assert (settings.trace_zipkin, settings.trace_w3c, settings.w3c_tenant_id) == (True, True, "t")
    assert settings.max_idle_per_endpoint == 3
