// Lines over the last minute, as SVG.

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function points(values, width, height, top) {
  const step = width / Math.max(values.length - 1, 1);
  return values.map((value, i) => `${(i * step).toFixed(1)},${(height - 1 - (value / top) * (height - 3)).toFixed(1)}`);
}

/** Fill `svg` with a line of `values`, and one of `errors` where there are any. */
export function line(svg, values, errors = [], label = "") {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const top = Math.max(...values, 1);
  const path = points(values, width, height, top);
  const parts = [
    shape("polygon", { class: "area", points: `0,${height} ${path.join(" ")} ${width},${height}` }),
    shape("polyline", { class: "line", points: path.join(" ") }),
  ];
  if (Math.max(...errors, 0) > top / 100) parts.push(shape("polyline", { class: "errors", points: points(errors, width, height, top).join(" ") }));
  if (label) svg.setAttribute("aria-label", label);
  svg.replaceChildren(...parts);
}

export function spark(values, errors = []) {
  const svg = shape("svg", { class: "spark", viewBox: "0 0 120 28", preserveAspectRatio: "none", "aria-hidden": "true" });
  line(svg, values, errors);
  return svg;
}
