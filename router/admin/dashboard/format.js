// Numbers, times and elements. All text reaches the page as text nodes, never as markup.

const two = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function rate(value) {
  return value >= 1000 ? whole.format(value) : value ? two.format(value) : "0";
}

export function count(value) {
  return whole.format(value);
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? `${two.format(value / 1000)} s` : `${two.format(value)} ms`;
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${two.format(value)} ${units[unit]}`;
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

export function span(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = parts.findIndex(([size]) => seconds >= size);
  if (at < 0) return "0 s";
  return parts.slice(at, at + 2).map(([size, name], i) =>
    `${Math.floor(i ? (seconds % parts[at][0]) / size : seconds / size)} ${name}`).join(" ");
}

/** An element: tag, attributes ("class", "on…" listeners too), children that are nodes or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null).map((child) => child instanceof Node ? child : String(child)));
  return element;
}

export function cell(text, classes = "") {
  return make("td", { class: classes || null }, text);
}

export function number(value, shown = rate, loud = false) {
  return cell(shown(value), `n${value ? loud ? " loud" : "" : " zero"}`);
}
