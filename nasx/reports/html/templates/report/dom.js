"use strict";
// Elements, numbers and tables. All text from the data becomes a text node, so that names are never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  return node;
}

function element(tag, attributes = {}, ...children) {
  const node = setAttributes(document.createElement(tag), attributes);
  node.append(...children.flat().filter((child) => child !== null && child !== ""));
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = setAttributes(document.createElementNS(SVG, tag), attributes);
  node.append(...children);
  return node;
}

function byElementId(id) {
  return document.getElementById(id);
}

function count(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

function withPrefix(value) {
  for (const [factor, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= factor) return `${(value / factor).toFixed(2)}\u00a0${prefix}`;
  }
  return value.toFixed(0);
}

// A value of a metric with its unit, as `nasx pareto` prints it; a no-break space keeps the two on one line.
function format(metric, value) {
  if (value === null || value === undefined) return "-";
  const { kind, unit } = report.metrics[metric];
  if (kind === "share") return `${(100 * value).toFixed(2)}\u00a0%`;
  if (metric === "macs") return withPrefix(value);
  if (kind === "count") return Math.round(value).toLocaleString("en");
  return `${value.toFixed(unit === "s" ? 1 : 3)}\u00a0${unit}`.trim();
}

// The value of a metric, with its standard deviation unless it is exact or an observed mean.
function formatEstimate(network, metric) {
  const value = format(metric, network.metrics[metric]), std = network.std[metric];
  if (!std) return value;
  const [number, unit] = value.split("\u00a0");
  return [number, "±", format(metric, std).split("\u00a0")[0], unit].filter(Boolean).join("\u00a0");
}

function percent(share) {
  return isNumber(share) ? `${(100 * share).toFixed(0)}\u00a0%` : "-";
}

const NARROW = 600; // pixels: a narrower page has room for an axis's arrow, but not for its meaning

// The name of a metric with its unit and, for an axis, an arrow that points to the better end.
function metricLabel(metric, { arrow = false } = {}) {
  const { label, unit, better } = report.metrics[metric];
  const name = unit ? `${label} (${unit})` : label;
  if (!arrow || !better) return name;
  if (innerWidth < NARROW) return better < 0 ? `← ${name}` : `${name} →`;
  return better < 0 ? `← ${name}, lower is better` : `${name}, higher is better →`;
}

// A table in a scrollable box; the first cell of each row is its header.
function table(header, rows, label) {
  const head = element("tr", {}, header.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map(([first, ...rest]) =>
    element("tr", {}, element("th", { scope: "row" }, first), rest.map((cell) => element("td", {}, cell))));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    element("table", {}, element("thead", {}, head), element("tbody", {}, body)));
}
