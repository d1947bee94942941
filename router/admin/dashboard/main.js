// The page. What it shows is in the address after #: "/" all apps, "/app/NAME" one of them. A stream of server-sent
// events brings that view once a second; a change of view opens another stream.

import { bytes, cell, clock, count, make, milliseconds, number, rate, span } from "./format.js";
import { line, spark } from "./draw.js";

const PAGE = 25;
const EVENTS = 200;
const COLUMNS = [
  ["app", "App", ""], [null, "Last minute", "wide"], ["rate", "Rate", "n"], ["errors", "Errors", "n"], ["p50", "p50", "n wide"],
  ["p99", "p99", "n"], ["instances", "Instances", "n"], ["in_flight", "In flight", "n wide"],
];
const KINDS = { total: "Whole response", router: "In the router", dial: "Connecting", backend: "Backend, to its head" };

const $ = (id) => document.getElementById(id);
const state = { q: "", sort: "rate", order: "desc", offset: 0, window: 10, app: null, total: 0 };
let source = null;
let lastEvent = 0;

// ---------------------------------------------------------------- the stream

function connect() {
  source?.close();
  const wanted = new URLSearchParams({ after: lastEvent });
  if (state.app !== null) wanted.set("app", state.app);
  else for (const name of ["q", "sort", "order", "offset", "window"]) wanted.set(name, state[name]);
  if (state.app === null) wanted.set("limit", PAGE);
  source = new EventSource(`/api/stream?${wanted}`);
  source.addEventListener("overview", (event) => { live(true); showOverview(JSON.parse(event.data)); });
  source.addEventListener("apps", (event) => showApps(JSON.parse(event.data)));
  source.addEventListener("app", (event) => showApp(JSON.parse(event.data)));
  source.addEventListener("events", (event) => showEvents(JSON.parse(event.data)));
  source.onerror = () => live(false);
}

function live(on) {
  const text = on ? "live" : "no connection to the router, trying again";
  if ($("live").textContent !== text) {
    $("live").textContent = text;
    $("live").className = on ? "quiet" : "pill bad";
  }
}

// ---------------------------------------------------------------- the whole router

function card(name, value, unit = "", drawing = null) {
  return make("div", { class: "card" }, make("dl", {}, make("dt", {}, name),
    make("dd", {}, value, unit ? make("small", {}, ` ${unit}`) : null)), drawing);
}

function note(text) {
  return make("p", { class: "quiet" }, text);
}

function pill(id, text, kind) {
  if ($(id).textContent !== text) $(id).textContent = text;
  $(id).className = `pill ${kind}`;
}

function showOverview(now) {
  pill("health", now.router.healthy ? "healthy" : `unwell: ${now.router.reason}`, now.router.healthy ? "good" : "bad");
  if (!now.bus.configured) pill("bus", "no bus", "");
  else if (now.bus.connected) pill("bus", "NATS connected", "good");
  else pill("bus", `NATS lost since ${clock(now.bus.since)}: ${now.bus.error}`, "bad");
  $("about").textContent = `${now.router.ip}:${now.router.port}, up ${span(now.router.uptime)}`;
  const total = now.totals;
  $("totals").replaceChildren(
    card("Requests", rate(total.rate_10s), "a second", spark(total.spark, total.spark_errors)),
    card("5xx answers", rate(total.errors_10s), "a second"),
    card("Latency p50", milliseconds(total.latency.total.p50)),
    card("Latency p99", milliseconds(total.latency.total.p99)),
    card("In flight", count(total.in_flight), "", note(`on ${count(total.connections)} connections`)),
    card("Apps", count(now.table.apps), "", note(`${count(now.table.endpoints)} endpoints, ${count(now.table.routes)} routes`)),
  );
  $("workers").replaceChildren(...now.workers.map((worker) => make("tr", {}, make("th", { scope: "row" }, worker.slot),
    cell(worker.pid || "in control", "n"), number(worker.connections, count), number(worker.in_flight, count))));
  const others = now.fleet.length > 0;
  $("fleet-title").hidden = $("fleet-table").hidden = !others;
  $("fleet").replaceChildren(...now.fleet.map((router) => make("tr", {}, make("th", { scope: "row" }, router.host, make("small", {}, router.id)),
    cell(count(router.routes), "n"), cell(router.state))));
  const reasons = Object.entries(now.reasons);
  $("reasons").replaceChildren(...(reasons.length ? reasons : [["none so far", null]]).map(([reason, many]) =>
    make("li", {}, make("span", {}, reason), many === null ? null : make("span", {}, count(many)))));
}

function showEvents(news) {
  if (news.last < lastEvent) $("events").replaceChildren();
  lastEvent = news.last;
  const items = news.events.map((event) => make("li", {}, make("time", {}, clock(event.at)),
    event.level === "info" ? null : make("span", { class: `pill ${event.level === "warn" ? "warn" : "bad"}` }, event.level),
    make("strong", {}, event.event), " ", make("span", { class: "quiet" }, facts(event.data))));
  $("events").prepend(...items);
  while ($("events").childElementCount > EVENTS) $("events").lastElementChild.remove();
}

function facts(data) {
  return Object.entries(data).filter(([, value]) => told(value)).map(([name, value]) => `${name}: ${text(value)}`).join(", ");
}

// Empty values say nothing; -1 is a time that there was not.
function told(value) {
  return value !== null && value !== "" && value !== -1 && (typeof value !== "object" || Object.values(value).some(told));
}

function text(value) {
  if (Array.isArray(value)) return value.map(text).join(" ");
  return value !== null && typeof value === "object" ? `{${facts(value)}}` : value;
}

// ---------------------------------------------------------------- all apps

function showColumns() {
  $("columns").replaceChildren(...COLUMNS.map(([key, name, classes]) => {
    const sorted = key !== null && key === state.sort;
    return make("th", { scope: "col", class: classes, "aria-sort": sorted ? state.order === "asc" ? "ascending" : "descending" : null },
      key === null ? name : make("button", { type: "button", onclick: () => sortBy(key) }, name));
  }));
}

function sortBy(key) {
  if (state.sort === key) state.order = state.order === "asc" ? "desc" : "asc";
  else Object.assign(state, { sort: key, order: key === "app" ? "asc" : "desc" });
  state.offset = 0;
  showColumns();
  $("columns").children[COLUMNS.findIndex(([k]) => k === key)].querySelector("button").focus();
  connect();
}

function showApps(page) {
  Object.assign(state, { total: page.total, offset: page.offset });
  const focused = document.activeElement?.closest("#apps a")?.getAttribute("href");
  $("apps").replaceChildren(...page.apps.map((app) => make("tr", { class: app.ejected ? "ejected" : null, "data-app": app.app },
    make("th", { scope: "row" }, make("a", { href: `#/app/${encodeURIComponent(app.app)}` }, app.app),
      make("small", {}, app.routes.filter((route) => route !== app.app).join(", "))),
    make("td", { class: "wide" }, spark(app.spark)), number(app.rate), number(app.errors, rate, true),
    cell(milliseconds(app.p50), "n wide"), cell(milliseconds(app.p99), "n"),
    cell(app.ejected ? `${app.instances - app.ejected} of ${app.instances}` : app.instances, app.ejected ? "n loud" : "n"),
    wide(number(app.in_flight, count)))));
  if (focused) $("apps").querySelector(`a[href="${focused}"]`)?.focus();
  const last = Math.min(page.offset + page.apps.length, page.total);
  const range = page.total ? `${count(page.offset + 1)} to ${count(last)} of ${count(page.total)}` : state.q ? "No app fits the filter." : "No apps yet.";
  if ($("range").textContent !== range) $("range").textContent = range;
  $("previous").disabled = page.offset === 0;
  $("next").disabled = last >= page.total;
}

function wide(element) {
  element.classList.add("wide");
  return element;
}

// ---------------------------------------------------------------- one app

const TONES = { in: "good", full: "warn", draining: "warn" }; // of an endpoint's state; others are bad

function showApp(app) {
  if (app.app !== state.app) return;
  if (app.gone) {
    $("one-routes").textContent = "No endpoint of this app is registered, and it had no request lately.";
    return;
  }
  $("one-routes").textContent = app.routes.join(", ");
  const bad = app.endpoints.filter((endpoint) => endpoint.state !== "in" && endpoint.state !== "full").length;
  $("one-cards").replaceChildren(
    card("Requests", rate(app.rate["10s"]), "a second"),
    card("5xx answers", rate(app.errors["10s"]), "a second"),
    card("Latency p50", milliseconds(app.latency["10s"].total.p50)),
    card("Latency p99", milliseconds(app.latency["10s"].total.p99)),
    card("Endpoints", app.endpoints.length - bad, "", note(bad ? `of ${app.endpoints.length} take requests` : "take requests")),
    card("Sent", bytes(app.bytes_out), "", note(`received ${bytes(app.bytes_in)}`)),
  );
  const most = rate(Math.max(...app.spark));
  $("one-most").textContent = `at most ${most}`;
  line($("one-chart"), app.spark, [], `Requests a second over the last minute: now ${rate(app.rate["1s"])}, at most ${most}`);
  $("one-latency").replaceChildren(...Object.entries(KINDS).map(([kind, name]) => {
    const times = app.latency["10s"][kind];
    return make("tr", {}, make("th", { scope: "row" }, name), ...["p50", "p90", "p99"].map((p) => cell(milliseconds(times[p]), "n")));
  }));
  const all = Object.values(app.responses).reduce((sum, n) => sum + n, 0) || 1;
  $("one-classes").replaceChildren(...Object.entries(app.responses).map(([name, many]) => make("tr", {}, make("th", { scope: "row" }, name),
    number(many, count, name === "5xx"), make("td", {}, make("meter", { value: many / all, "aria-label": `share of ${name}` })))));
  $("endpoints").replaceChildren(...app.endpoints.map((endpoint) => make("tr", { class: endpoint.state in TONES ? null : "ejected", "data-backend": endpoint.backend },
    make("td", { class: "why" }, make("span", { class: `pill ${TONES[endpoint.state] || "bad"}` }, endpoint.state),
      endpoint.why ? make("small", {}, endpoint.why) : null),
    make("th", { scope: "row" }, endpoint.backend, make("small", {}, endpoint.protocol)),
    cell(endpoint.index || "–"), cell(endpoint.zone || "–"), number(endpoint.rate), cell(milliseconds(endpoint.p50), "n"),
    cell(milliseconds(endpoint.p99), "n"), number(endpoint.in_flight, count), number(endpoint.responses["5xx"], count, true),
    number(endpoint.failed_attempts, count, true))));
  $("failures").replaceChildren(...(app.failures.length ? app.failures.map((failed) => make("tr", {}, cell(clock(failed.at)),
    cell(failed.status || "–", "n"), cell(`${failed.method} ${failed.host}${failed.target}`, "path"), cell(`${failed.error} (attempts: ${failed.attempts})`, "why"),
    cell(failed.request_id))) : [make("tr", {}, make("td", { colspan: 5, class: "zero" }, "None."))]));
  $("clients").replaceChildren(...(app.clients.length ? app.clients : [{ ip: "none lately", rate: null }]).map((client) =>
    make("li", {}, make("span", {}, client.ip), client.rate === null ? null : make("span", {}, `${rate(client.rate)} a second`))));
}

// ---------------------------------------------------------------- which view

function route() {
  const match = location.hash.match(/^#\/app\/(.*)$/);
  state.app = match ? decodeURIComponent(match[1]) : null;
  $("all").hidden = state.app !== null;
  $("one").hidden = state.app === null;
  document.title = state.app === null ? "router" : `${state.app} · router`;
  if (state.app !== null) {
    $("one-title").textContent = state.app;
    for (const id of ["one-cards", "one-latency", "one-classes", "endpoints", "failures", "clients", "one-chart", "one-routes"]) $(id).replaceChildren();
    $("one-title").focus();
    scrollTo(0, 0);
  }
  connect();
}

let typing = null;
$("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => { Object.assign(state, { q: $("filter").value.trim(), offset: 0 }); connect(); }, 200);
});
$("window").addEventListener("change", () => { state.window = Number($("window").value); connect(); });
$("previous").addEventListener("click", () => { state.offset = Math.max(state.offset - PAGE, 0); connect(); });
$("next").addEventListener("click", () => { state.offset += PAGE; connect(); });
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName) && state.app === null) {
    event.preventDefault();
    $("filter").focus();
  } else if (event.key === "Escape" && state.app !== null) location.hash = "#/";
});
addEventListener("hashchange", route);
showColumns();
route();
