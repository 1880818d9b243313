"use strict";
// Charts by plotly: drawn when they come into view, in the colors of the theme, each with its data as a table.

const MANY_ROWS = 200; // of a table; a button shows more
const charts = new Map(); // id -> chart
const PRINT_WIDTH = { whole: 660, part: 310 }; // pixels: of a chart that has a row of its own, or shares it
let printing = false;

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// `draw` returns {traces, layout, label}, `rows` returns {header, rows}. The customdata of a point is its network's id.
function addChart(id, draw, rows) {
  const place = byElementId(id);
  const chart = { id, draw, rows, place, isSeen: false, isStale: true };
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", place.closest("section").querySelector("h2").textContent); // until it is drawn
  chart.details = element("details", { ontoggle: () => fillTable(chart) },
    element("summary", {}, "Data as a table"), element("div"));
  place.after(chart.details);
  charts.set(id, chart);
  observer.observe(place);
  views.push(() => { chart.isStale = true; if (chart.isSeen) drawChart(chart); fillTable(chart); });
}

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const chart = charts.get(target.id);
    chart.isSeen = isIntersecting;
    if (isIntersecting && chart.isStale) drawChart(chart);
  }
}, { rootMargin: "200px" });

function drawAllCharts() {
  for (const chart of charts.values()) if (chart.isStale) drawChart(chart);
}

function drawChart(chart) {
  const { traces, layout, label } = chart.draw();
  chart.isStale = false;
  chart.place.setAttribute("aria-label", label);
  const isNew = !chart.place.classList.contains("js-plotly-plot");
  const { clientWidth: width, clientHeight: height } = chart.place;
  // given both, plotly keeps the size: a resize that it has deferred must not undo the print width
  const size = printing ? { width: PRINT_WIDTH[chart.place.closest(".grid") ? "part" : "whole"], height } : { width };
  Plotly.react(chart.place, traces, { ...baseLayout(), ...size, ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis) },
    { displayModeBar: false, responsive: true, doubleClick: "reset+autosize" });
  if (!isNew) return;
  chart.place.on("plotly_click", ({ points }) => points[0].customdata && openNetwork(points[0].customdata));
  chart.place.on("plotly_hover", ({ points, event }) => points[0].customdata && showPreview(points[0].customdata, event));
  chart.place.on("plotly_unhover", hidePreview);
}

function baseLayout() {
  return {
    font: { family: "system-ui, sans-serif", size: 13, color: color("ink") },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 62, r: 12, t: 12, b: 52 },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
    hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // on touch screens, dragging scrolls the page
    uirevision: "keep", // keeps the zoom when trials are added
  };
}

function axis(settings = {}) {
  const { metric, arrow = true, ...rest } = settings;
  const own = metric ? {
    title: { text: plain(metricLabel(metric, { arrow })), standoff: 14 },
    tickformat: report.metrics[metric].kind === "share" ? ".1%" : report.metrics[metric].kind === "count" ? "~s" : "",
  } : {};
  return {
    gridcolor: color("line"), linecolor: color("muted"), zeroline: false, automargin: true, tickcolor: color("muted"),
    ...own, ...rest,
  };
}

// Escape text for plotly, which interprets some HTML in its labels.
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

const MARKERS = {
  complete: { name: "other networks", color: "cloud", symbol: "circle", size: 7 },
  infeasible: { name: "infeasible", color: "orange", symbol: "triangle-up-open", size: 8 },
  failed: { name: "failed", color: "vermillion", symbol: "x-thin-open", size: 8 },
  rival: { name: "possibly on the true front", color: "front", symbol: "square-open", size: 8 },
  once: { name: "front, trained once", color: "front", symbol: "circle-open", size: 11 },
  front: { name: "front", color: "front", symbol: "circle", size: 11 },
  knee_once: { name: "knee, trained once", color: "vermillion", symbol: "diamond-open", size: 13 },
  knee: { name: "knee", color: "vermillion", symbol: "diamond", size: 14 },
};

// One trace per role that occurs, and rings around the networks that are open.
function networkTraces(shown, x, y) {
  const traces = Object.entries(MARKERS).map(([kind, marker]) => {
    const own = shown.filter((network) => markerOf(network) === kind);
    return points(own, x, y, {
      name: marker.name,
      marker: {
        color: color(marker.color), symbol: marker.symbol, size: marker.size,
        line: { width: marker.symbol.includes("open") ? 1.8 : 0.8, color: color(marker.symbol.includes("open") ? marker.color : "paper") },
      },
    });
  });
  const rings = points(shown.filter(({ id }) => opened.includes(id)), x, y, {
    name: "open", marker: { color: color("ink"), symbol: "circle-open", size: 20, line: { width: 2 } },
  });
  return [...traces, rings].filter((trace) => trace.x.length);
}

function markerOf(network) {
  if (!isTrainedOnce(network)) return network.role;
  return { front: "once", knee: "knee_once" }[network.role] ?? network.role;
}

function isTrainedOnce(network) {
  return report.estimated && network.trainings - network.failed_trainings === 1;
}

function roleOf(network) {
  const name = network.role === "rival" ? "possibly on the true front" : network.role;
  return ["knee", "front", "rival"].includes(network.role) && isTrainedOnce(network) ? `${name}, trained once` : name;
}

// Error bars of ± one standard deviation for the estimates of the front; `x`, `y`: metrics.
function intervals(shown, x, y) {
  const own = shown.filter(({ role }) => role === "front" || role === "knee");
  const bars = (metric) => ({
    type: "data", array: own.map(({ std }) => std[metric] ?? 0), thickness: 1, width: 0, color: color("front"),
    visible: own.some(({ std }) => std[metric]),
  });
  return points(own, value(x), value(y), {
    error_x: bars(x), error_y: bars(y), opacity: 0.6, marker: { size: 1, color: color("front") },
    hoverinfo: "skip", showlegend: false, name: "one standard deviation",
  });
}

function points(own, x, y, style) {
  const known = own.filter((network) => isNumber(x(network)) && isNumber(y(network)));
  return {
    type: "scatter", mode: "markers", hoverinfo: "none", x: known.map(x), y: known.map(y),
    customdata: known.map(({ id }) => id), ...style,
  };
}

function isNumber(value) {
  return typeof value === "number";
}

function fillTable({ details, rows, id }) {
  if (!details.open) return;
  const { header, rows: all } = rows();
  const place = details.lastElementChild;
  const fill = (n) => {
    place.replaceChildren(table(header, all.slice(0, n), `data of ${id}`));
    if (all.length > n) {
      place.append(element("button", { type: "button", onclick: () => fill(n + 5 * MANY_ROWS) },
        `Show more: ${count(all.length - n, "row")} left`));
    }
  };
  fill(MANY_ROWS);
}

// A button that opens a network: the keyboard's way to do what clicking a point does.
function openButton(id) {
  return element("button", { type: "button", class: "link", onclick: () => openNetwork(id) }, id);
}

function networkRows(shown, metrics) {
  const order = { knee: 0, front: 1, rival: 2 };
  const sorted = [...shown].sort((a, b) => (order[a.role] ?? 3) - (order[b.role] ?? 3) || a.place - b.place);
  return {
    header: ["network", "status", ...metrics.map((metric) => metricLabel(metric)), "trainings",
      ...(report.estimated ? ["P(front)"] : []), "generation"],
    rows: sorted.map((network) => [openButton(network.id), roleOf(network),
      ...metrics.map((metric) => formatEstimate(network, metric)), String(network.trainings),
      ...(report.estimated ? [percent(network.p_front)] : []), String(network.generation)]),
  };
}

function showPreview(id, { clientX, clientY }) {
  const network = networks.get(id), preview = byElementId("preview");
  preview.replaceChildren(
    element("strong", {}, id), ` ${roleOf(network)}`,
    ...(network.edges.length ? [drawCell(network.edges)] : []),
    // an architecture that is only a cell, |...|, is drawn; other choices are in words
    ...(network.edges.length && network.architecture.startsWith("|") ? [] : [element("p", {}, network.architecture)]),
    element("p", {}, report.objectives.map((metric) =>
      element("span", {}, `${report.metrics[metric].label} ${formatEstimate(network, metric)}`))));
  preview.hidden = false;
  const { width, height } = preview.getBoundingClientRect();
  preview.style.left = `${Math.max(4, clientX + 16 + width > innerWidth ? clientX - width - 16 : clientX + 16)}px`;
  preview.style.top = `${Math.max(4, Math.min(clientY - height / 2, innerHeight - height - 4))}px`;
}

function hidePreview() {
  byElementId("preview").hidden = true;
}
