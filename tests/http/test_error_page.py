"""Error pages: text, the operator's template, JSON (contract §6, §6.2; RFC 9110 §12.5.1, RFC 9457)."""

from __future__ import annotations

import json

import pytest

from router.http import errors
from router.http.error_page import Look, json_kind
from router.http.template import Page, Template, TemplateError

PAGE = Page(404, "Not Found", "no <b>such</b> \"route\" 'x'", {"x-cf-routererror": "unknown_route"})

RENDERED = [
    ("plain", "plain"),
    ("{{.Status}} {{ .StatusText }}", "404 Not Found"),
    ("<p>{{.Message}}</p>", "<p>no &lt;b&gt;such&lt;/b&gt; &quot;route&quot; &#x27;x&#x27;</p>"),
    ('{{.Header.Get "X-Cf-RouterError"}}|{{.Header.Get `none`}}', "unknown_route|"),
    ("{{if eq .Status 404}}a{{else}}b{{end}}", "a"),
    ("{{if eq .Status 400 404}}a{{end}}", "a"),
    ("{{if ne .Status 404}}a{{else if ge .Status 400}}b{{else}}c{{end}}", "b"),
    ('{{if (and (lt .Status 500) (not (eq .StatusText "x")))}}a{{end}}', "a"),
    ('{{if or (eq .Status 1) (eq (.Header.Get "x-cf-routererror") "unknown_route")}}a{{end}}', "a"),
    ("{{if .Message}}a{{if eq .Status 1}}b{{end}}c{{end}}", "ac"),
    ("a {{- /* note */ -}} b", "ab"),
    ("a\n{{- .Status -}}\nb", "a404b"),
    ('{{print "s" .Status}}', "s404"),
    ("<a title=\"{{.Message}}\" href='{{.StatusText}}'>", None),
    ("<script>var a = 1 < 2</script><p>{{.Status}}</p>", "<script>var a = 1 < 2</script><p>404</p>"),
]


@pytest.mark.parametrize(("source", "expected"), RENDERED)
def test_templates(source: str, expected: str | None) -> None:
    rendered = Template(source).render(PAGE)
    assert expected is None or rendered == expected


REFUSED = [
    ("a\n{{.Nope}}", "line 2"),
    ("{{.Status", "`{{` without `}}`"),
    ("{{if .Status}}", "`if` without `end`"),
    ("{{end}}", "`end` without `if`"),
    ("{{else}}", "`else` without `if`"),
    ("{{range .Status}}{{end}}", "`range` is not known"),
    ("{{.Status | printf}}", "not understood"),
    ('{{if eq .Status "404"}}{{end}}', "different kinds"),
    ("{{eq}}", "wants a value"),
    ("{{.Header.Get}}", "wants one name"),
    ("{{(.Status}}", "`)` is missing"),
    ("{{.Status .Status}}", "one too many"),
    ("{{if .Status}}{{else with}}{{end}}", "not understood"),
    ("{{}}", "a value is missing"),
    ("<script>x = '{{.Message}}'</script>", "inside <script>"),
    ("<STYLE>{{.Message}}</STYLE>", "inside <STYLE>"),
    ("<a href={{.Message}}>", "between quotes"),
    ('<a onclick="{{.Message}}">', "is code"),
]


@pytest.mark.parametrize(("source", "reason"), REFUSED)
def test_templates_that_cannot_be_used(source: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(source)
    assert reason in str(caught.value)


ACCEPT = [
    (b"application/json", b"application/json"),
    (b"application/problem+json", b"application/problem+json"),
    (b"application/json, application/problem+json", b"application/problem+json"),
    (b"application/json, application/problem+json;q=0.5", b"application/json"),
    (b"application/json, text/plain, */*", b"application/json"),
    (b"APPLICATION/JSON; charset=utf-8; q=0.9, */*; q=0.1", b"application/json"),
    (b"text/html, application/json;q=0.9", b""),
    (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", b""),
    (b"application/json;q=0", b""),
    (b"application/json;q=rubbish", b""),
    (b"*/*", b""),
    (b"application/*", b""),
    (b"", b""),
    (b",;=,json", b""),
]


@pytest.mark.parametrize(("accept", "kind"), ACCEPT)
def test_who_gets_json(accept: bytes, kind: bytes) -> None:
    assert json_kind(accept) == kind


def test_json() -> None:
    look = Look(b"application/json", Template("x"))
    answer = errors.error_answer(errors.UNKNOWN_ROUTE, b'h"<', ["Look here."], look=look)
    assert b"Content-Type: application/json\r\n" in answer.headers
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "status": 404,
        "title": "Not Found",
        "detail": "Requested route ('h\"<') does not exist.",
        "router_error": "unknown_route",
        "hints": ["Look here."],
    }
    answer = errors.endpoint_failure(502, "EOF", look)
    assert json.loads(answer.body)["router_error"] == "endpoint_failure (EOF)"
    assert b"Content-Length: %d\r\n" % len(answer.body) in answer.headers


def test_the_template_is_for_rows_1_to_23_only() -> None:
    look = Look(b"text/html", Template("<h1>{{.Status}} {{.Message}}</h1>"))
    answer = errors.error_answer(errors.UNKNOWN_ROUTE, b"<h>", ["unused"], look=look)
    assert answer.body == b"<h1>404 Requested route (&#x27;&lt;h&gt;&#x27;) does not exist.</h1>"
    assert b"Content-Type: text/html; charset=utf-8\r\n" in answer.headers
    assert b"X-Content-Type-Options: nosniff\r\n" in answer.headers
    plain = errors.endpoint_failure(502, "EOF", look)
    assert plain == errors.endpoint_failure(502, "EOF")
    assert errors.error_answer(errors.HEAD_TOO_LARGE, b"h", look=look).body == b""
