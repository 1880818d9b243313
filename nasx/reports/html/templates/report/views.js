"use strict";
// The charts of the page: traces, layout and table rows of each; `charts.js` draws them.

const VISIBLE_SHARE = 0.9; // of the networks, that the axes include at least; the others are counted in a note

function value(metric) {
  return (network) => network.metrics[metric];
}

function choice(id) {
  return byElementId(id).value;
}

// Fill a <select> with metrics; redraw when another is selected.
function addChoices(id, metrics, chosen) {
  const select = byElementId(id);
  select.replaceChildren(...metrics.map((metric) =>
    element("option", { value: metric, selected: metric === chosen }, metricLabel(metric))));
  select.addEventListener("change", refresh);
}

function addViews() {
  const metrics = Object.keys(report.metrics), [first, second] = report.objectives;
  const partner = second ?? metrics.find((metric) => metric !== first) ?? first;
  addChoices("front-x", metrics, partner);
  addChoices("front-y", metrics, first);
  addChoices("time-y", metrics, first);
  addChoices("costs-y", report.objectives, first);
  addChart("front-chart", frontChart, () => networkRows(shownNetworks(), metrics));
  addChart("time-chart", timeChart, () => networkRows(shownNetworks(), [choice("time-y")]));
  addChart("growth-chart", growthChart, () => ({
    header: ["trials", "hypervolume"], rows: steps(report.growth).map(([n, volume]) => [String(n), volume.toPrecision(4)]),
  }));
  for (const metric of ["parameters", "macs", "train_seconds"]) {
    const figure = byElementId(`costs-${metric}`).parentElement;
    figure.hidden = !(metric in report.metrics) || [...networks.values()].every((network) => !network.metrics[metric]);
    if (!figure.hidden) {
      addChart(`costs-${metric}`, () => costChart(metric), () => networkRows(shownNetworks(), [choice("costs-y"), metric]));
    }
  }
  addChart("phylogeny-chart", phylogenyChart, phylogenyRows);
  if (report.paper) addChart("paper-chart", paperChart, paperRows);
}

function frontChart() {
  const x = choice("front-x"), y = choice("front-y"), shown = shownNetworks();
  const traces = networkTraces(shown, value(x), value(y));
  const isPlane = report.objectives.length === 2 && report.objectives.includes(x) && report.objectives.includes(y);
  if (isPlane && x !== y) traces.unshift(staircase(shown, x, y));
  if (report.estimated && x !== y) traces.unshift(intervals(shown, x, y));
  const ranges = { [x]: focus(x), [y]: focus(y) };
  const hidden = outside(shown, ranges);
  const notes = report.estimated ? ["Points are estimates; bars: ± one standard deviation."] : [];
  if (hidden) notes.push(`${count(hidden, "network")} outside the axes: double-click to show all, again to return to the front.`);
  byElementId("front-note").textContent = notes.join(" ");
  return {
    traces,
    layout: { xaxis: { metric: x, range: ranges[x] }, yaxis: { metric: y, range: ranges[y] } },
    label: `The front: ${metricLabel(y)} against ${metricLabel(x)} of ${count(shown.length, "network")}, `
      + `${report.front.length} of them on the front.`,
  };
}

// The best value reached at x: that of the next member if more is better, of the last one if less is.
function staircase(shown, x, y) {
  const members = shown.filter(({ id }) => report.front.includes(id)).sort((a, b) => a.metrics[x] - b.metrics[x]);
  return {
    type: "scatter", mode: "lines", x: members.map(value(x)), y: members.map(value(y)), hoverinfo: "skip",
    line: { color: color("front"), width: 2, shape: report.metrics[x].better > 0 ? "vh" : "hv" }, showlegend: false,
  };
}

// The range that contains the front and VISIBLE_SHARE of the networks, without the worst; undefined if there are none.
function focus(metric) {
  const { better } = report.metrics[metric];
  const known = [...networks.values()].filter(({ status }) => status === "complete").map(value(metric)).filter(isNumber);
  if (!known.length) return undefined;
  const cost = better > 0 ? -1 : 1;
  const sorted = known.map((v) => cost * v).sort((a, b) => a - b);
  const bulk = better ? [sorted[0], sorted[Math.ceil(VISIBLE_SHARE * (sorted.length - 1))]] : [sorted[0], sorted.at(-1)];
  const front = report.front.map((id) => networks.get(id)).filter(({ metrics }) => isNumber(metrics[metric]));
  const ends = front.flatMap(({ metrics, std }) => [-1, 1].map((side) => metrics[metric] + side * (std[metric] ?? 0)));
  const all = [...bulk.map((v) => cost * v), ...ends];
  const low = Math.min(...all), high = Math.max(...all), margin = 0.07 * (high - low || Math.abs(high) || 1);
  return [low - margin, high + margin];
}

function outside(shown, ranges) {
  return shown.filter(({ metrics }) => Object.entries(ranges).some(([metric, range]) =>
    range && isNumber(metrics[metric]) && (metrics[metric] < range[0] || metrics[metric] > range[1]))).length;
}

function timeChart() {
  const y = choice("time-y"), shown = shownNetworks(), place = (network) => network.place + 1;
  const without = shown.filter((network) => !isNumber(network.metrics[y]) && network.status !== "complete");
  const rug = points(without, place, () => 0.02, {
    name: "no value", yaxis: "y2", marker: { color: color("vermillion"), symbol: "line-ns-open", size: 10 },
  });
  return {
    traces: [...networkTraces(shown, place, value(y)), ...(without.length ? [rug] : [])],
    layout: {
      xaxis: { title: { text: "networks, in order of completion" } }, yaxis: { metric: y },
      yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
    },
    label: `${metricLabel(y)} of ${count(shown.length, "network")} in order of completion.`,
  };
}

// [number of trials, hypervolume] of the first and last trial and of every trial at which it grew.
function steps(growth) {
  return growth.map((volume, place) => [place + 1, volume])
    .filter(([n, volume]) => n === 1 || n === growth.length || volume !== growth[n - 2]);
}

function growthChart() {
  const grown = steps(report.growth);
  return {
    traces: [{
      type: "scatter", mode: "lines", x: grown.map(([n]) => n), y: grown.map(([, v]) => v), name: "hypervolume",
      line: { color: color("front"), width: 2, shape: "hv" }, hovertemplate: "%{y:.4g} after %{x} trials<extra></extra>",
    }],
    layout: { xaxis: { title: { text: "trials" } }, yaxis: { title: { text: "hypervolume" }, rangemode: "tozero" } },
    label: `Hypervolume after each of ${count(report.growth.length, "trial")}; at the end ${report.growth.at(-1)?.toPrecision(4) ?? 0}.`,
  };
}

function costChart(metric) {
  const y = choice("costs-y"), shown = shownNetworks();
  const known = shown.map(value(metric)).filter((v) => v > 0);
  const isWide = known.length > 0 && Math.max(...known) > 30 * Math.min(...known);
  return {
    traces: networkTraces(shown, value(metric), value(y)),
    layout: {
      xaxis: { metric, arrow: false, type: isWide ? "log" : "linear" }, yaxis: { metric: y, arrow: false },
      showlegend: false,
    },
    label: `${metricLabel(y)} against ${metricLabel(metric)} of ${count(shown.length, "network")}.`,
  };
}

function paperChart() {
  const { ours, theirs, scorer, chance } = report.paper;
  const learned = [...ours, ...theirs].filter(([, error]) => error < 0.95 * chance); // the paper's fronts include networks at chance level
  const margin = (values) => [Math.min(...values), Math.max(...values)].map((v, i, [low, high]) =>
    v + (i ? 0.07 : -0.07) * (high - low || 0.1));
  const line = (points, name, shade, symbol, dash) => ({
    type: "scatter", mode: "lines+markers", name, x: points.map(([x]) => x), y: points.map(([, y]) => y),
    customdata: points.map(([, , id]) => id ?? null), hovertemplate: "error %{y:.2%}, introspectability %{x:.3f}",
    line: { color: color(shade), shape: "vh", dash }, marker: { color: color(shade), symbol, size: 10 },
  });
  const ascending = (points) => [...points].sort(([a], [b]) => a - b);
  return {
    traces: [
      line(ascending(theirs), "the paper's front", "green", "triangle-up", "dash"),
      line(ascending(ours), "this run's front, by the same scorer", "front", "circle", "solid"),
    ],
    layout: {
      xaxis: { title: { text: plain(`introspectability by ${scorer}, higher is better →`) }, range: margin(learned.map(([x]) => x)) },
      yaxis: { title: { text: "← validation error, lower is better" }, tickformat: ".0%", range: margin(learned.map(([, y]) => y)) },
    },
    label: `This run's front and the paper's: ${report.paper.sentence}.`,
  };
}

function paperRows() {
  const row = (source) => ([x, y, id]) => [id ? openButton(id) : source, source, `${(100 * y).toFixed(2)} %`, x.toFixed(3)];
  return {
    header: ["network", "source", "validation error", "introspectability"],
    rows: [...report.paper.ours.map(row("this run")), ...report.paper.theirs.map(row("the paper"))],
  };
}
