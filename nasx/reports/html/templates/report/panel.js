"use strict";
// Panels: all details of one network, or of two side by side.

function drawPanels() {
  byElementId("panels").replaceChildren(...opened.map((id) => panel(networks.get(id))));
  byElementId("networks-hint").hidden = opened.length > 0;
  const compare = byElementId("compare");
  compare.hidden = opened.length === 0;
  compare.setAttribute("aria-pressed", String(comparing));
  compare.textContent = comparing ? "Now click the second network" : "Compare with another network";
}

function panel(network) {
  const { id, status, reason, detail } = network;
  const summary = network.role === status ? status : `${status}, ${roleOf(network)}`;
  const heading = element("h3", { id: `network-${id}`, tabindex: -1 }, `Network ${id}`);
  const shut = element("button", { type: "button", class: "close", "aria-label": `Close network ${id}`,
    onclick: () => { closeNetwork(id); refresh(); } }, "×");
  return element("article", { class: "panel", "aria-labelledby": `network-${id}` },
    element("header", {}, heading, shut),
    element("p", {}, reason ? `${summary}: ${reason.replaceAll("_", " ")}` : summary),
    detail && element("pre", {}, detail),
    network.edges.length ? drawCell(network.edges) : null,
    element("p", { class: "architecture" }, network.architecture),
    metricsTable(network), originOf(network), ...network.scores.map((score) => scoreSection(score, id)),
    ...(report.figures[id] ?? []).map(figureOf), commands(network));
}

function metricsTable(network) {
  const known = Object.keys(report.metrics).filter((metric) => isNumber(network.metrics[metric]));
  const other = opened.length === 2 && opened[1] === network.id ? networks.get(opened[0]) : null;
  const hasMeans = Object.keys(network.observed).length > 0;
  const optional = (mean, change) => [...(hasMeans ? [mean] : []), ...(other ? [change] : [])];
  const rows = known.map((metric) => [metricLabel(metric), formatEstimate(network, metric),
    ...optional(metric in network.observed ? format(metric, network.observed[metric]) : "", other && difference(metric, network, other))]);
  const row = (name, text) => rows.push([name, text, ...optional("", "")]);
  if (network.test_error) row("test error after full training", network.test_error);
  row("trainings", network.failed_trainings ? `${network.trainings}, ${network.failed_trainings} without a result`
    : String(network.trainings));
  if (network.p_front !== null) row("probability of being on the true front", percent(network.p_front));
  const header = ["metric", hasMeans ? "estimate" : "value", ...optional("mean of its trainings", other && `difference from ${other.id}`)];
  return table(header, rows, `metrics of network ${network.id}`);
}

function difference(metric, network, other) {
  const a = network.metrics[metric], b = other.metrics[metric];
  if (!isNumber(a) || !isNumber(b)) return "-";
  const size = format(metric, Math.abs(a - b));
  return size === format(metric, 0) ? "equal" : `${a > b ? "+" : "−"}${size}`;
}

function originOf({ operator, generation, parents }) {
  const links = parents.flatMap((id) => [" ", networks.has(id) ? openButton(id) : id]);
  return element("p", {}, `Generation ${generation}, operator: ${operator}`, links.length ? ", parents:" : "", ...links);
}

function scoreSection(score, id) {
  const scorer = `${score.scorer}: ${score.value === null ? "-" : score.value.toFixed(3)}`;
  const quality = score.completeness_error === null ? ""
    : `, completeness error ${(100 * score.completeness_error).toFixed(0)} %`;
  const training = networks.get(id).trainings > 1 ? ", after the first training" : "";
  return element("details", { class: "score", open: score === networks.get(id).scores[0] },
    element("summary", {}, `Introspectability by ${scorer}`),
    element("p", { class: "note" }, `Measured on ${count(score.samples, "validation image")}${quality}${training}.`),
    element("h4", {}, "By layer, from the input to the output"), profile(score, id),
    element("h4", {}, "Distances between classes"),
    score.thousandths ? distanceTable(score, id) : null, pairs(score));
}

function profile({ layers, profile: values, scorer }, id) {
  const highest = Math.max(...values.filter(isNumber), 1e-9);
  const rows = report.layers[layers].map((layer, place) => {
    const bar = element("span", { class: "bar" });
    bar.style.width = `${100 * (values[place] ?? 0) / highest}%`;
    return [layer, values[place]?.toFixed(3) ?? "-", bar];
  });
  return table(["layer", "value", "relative to the highest"], rows, `layer profile by ${scorer} of network ${id}`);
}

function className(place) {
  return report.class_names[place] ?? String(place);
}

// Unpack the upper triangle, stored row by row in thousandths, as [first, second, distance]; pairs without a distance are left out.
function allPairs(thousandths) {
  const n = (1 + Math.sqrt(1 + 8 * thousandths.length)) / 2, found = [];
  for (let a = 0, i = 0; a < n; a++) {
    for (let b = a + 1; b < n; b++, i++) if (isNumber(thousandths[i])) found.push([a, b, thousandths[i] / 1000]);
  }
  return { n, found };
}

function distanceTable({ thousandths, scorer }, id) {
  const { n, found } = allPairs(thousandths);
  const lookup = new Map(found.map(([a, b, distance]) => [b * n + a, distance]));
  const highest = Math.max(1, ...lookup.values());
  const cell = (row, column) => {
    const distance = lookup.get(row * n + column);
    const field = element("span", {}, isNumber(distance) ? distance.toFixed(2) : column < row ? "-" : "");
    if (isNumber(distance)) field.style.setProperty("--heat", `${Math.round(55 * distance / highest)}%`);
    return field;
  };
  const places = [...Array(n).keys()];
  const rows = places.slice(1).map((row) => [className(row), ...places.slice(0, -1).map((column) => cell(row, column))]);
  const box = table(["class", ...places.slice(0, -1).map(className)], rows, `class distances by ${scorer} of network ${id}`);
  box.classList.add("heat");
  return box;
}

function pairs({ thousandths, closest, farthest }) {
  if (thousandths) {
    const sorted = allPairs(thousandths).found.sort(([, , a], [, , b]) => a - b);
    closest = sorted.slice(0, 5);
    farthest = sorted.slice(-5).reverse();
  }
  const listed = (chosen) => chosen.map(([a, b, d]) => `${className(a)} and ${className(b)} (${d.toFixed(2)})`).join("; ");
  return element("ul", {}, element("li", {}, `Closest: ${listed(closest)}`), element("li", {}, `Farthest: ${listed(farthest)}`));
}

function figureOf({ caption, source, width, height }) {
  return element("figure", {},
    element("img", { src: source, alt: caption, width, height }), element("figcaption", {}, caption));
}

function commands({ id, has_weights }) {
  const usable = report.commands.filter(({ needs_weights }) => has_weights || !needs_weights);
  const why = report.looked_up ? "Its results come from a table: there is no trained network."
    : "It has no trained network: no training of it is complete.";
  if (!usable.length) return element("p", { class: "note" }, why);
  return element("div", { class: "commands" }, element("h4", {}, "Commands for this network"),
    usable.map(({ text, purpose }) => copyable(`${text} ${id}`, purpose)));
}

function copyable(text, purpose) {
  const code = element("code", {}, text);
  const button = element("button", { type: "button", "aria-label": `Copy: ${text}`, onclick: () => copy(text, code, button) }, "Copy");
  return element("div", { class: "copyable" }, purpose && element("p", {}, purpose), element("div", {}, code, button));
}

async function copy(text, code, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch { // no permission: select the text, so that Ctrl-C copies it
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}
