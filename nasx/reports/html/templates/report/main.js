"use strict";
// Page setup: filters, theme, printing, and polling to keep a served page up to date.

const POLL_INTERVAL = 3000; // milliseconds

function numberField(label, read) {
  const field = element("input", { type: "number", step: "any", "aria-label": label, oninput: () => { read(field.value); refresh(); } });
  return field;
}

function bounds(label, scale, set) {
  const parse = (text) => (text === "" || Number.isNaN(Number(text)) ? null : Number(text) / scale);
  return element("fieldset", {}, element("legend", {}, label),
    numberField(`${label}, at least`, (text) => set(0, parse(text))), " to ",
    numberField(`${label}, at most`, (text) => set(1, parse(text))));
}

function addFilters() {
  const boxes = report.statuses.map((status) => element("label", {},
    element("input", { type: "checkbox", checked: true, value: status, onchange: ({ target }) => {
      filters.hidden[target.checked ? "delete" : "add"](status);
      refresh();
    } }), ` ${status}`));
  const ranges = report.objectives.map((metric) => bounds(metricLabel(metric), report.metrics[metric].kind === "share" ? 100 : 1,
    (end, value) => { (filters.ranges[metric] ??= [null, null])[end] = value; }));
  byElementId("filter-fields").replaceChildren(
    element("fieldset", {}, element("legend", {}, "status"), boxes),
    bounds("generation", 1, (end, value) => { filters.generation[end] = value; }), ...ranges);
  byElementId("filters").addEventListener("reset", () => {
    filters.hidden.clear();
    filters.generation = [null, null];
    filters.ranges = {};
    refresh();
  });
  views.push(() => {
    const shown = shownNetworks().length;
    byElementId("shown").textContent = shown === networks.size ? `All ${count(shown, "network")} shown`
      : `${shown.toLocaleString("en")} of ${count(networks.size, "network")} shown`;
  });
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byElementId("theme").setAttribute("aria-pressed", String(theme === "dark"));
  for (const chart of charts.values()) chart.isStale = true;
  for (const chart of charts.values()) if (chart.isSeen) drawChart(chart);
}

function addTheme() {
  const button = byElementId("theme");
  button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(isDark() ? "dark" : "light"));
  let before = "";
  addEventListener("beforeprint", () => {
    before = isDark() ? "dark" : "light";
    printing = true;
    setTheme("light"); // dark text on white paper
    drawAllCharts();
  });
  addEventListener("afterprint", () => {
    printing = false;
    setTheme(before);
  });
}

// Poll the server for new data; it answers 304 (not modified) if there are none.
async function poll() {
  const state = byElementId("live");
  try {
    const response = await fetch("data.json", { cache: "no-cache" });
    if (!response.ok) throw new Error(response.statusText);
    const text = await response.text();
    if (text !== poll.last) {
      poll.last = text;
      const before = Object.keys(report.metrics).join();
      setReport(JSON.parse(text));
      if (Object.keys(report.metrics).join() !== before) { // the first results: the menus need other entries
        location.reload();
        return;
      }
      drawLists();
      refresh();
    }
    state.textContent = `up to date, ${new Date().toLocaleTimeString("en-GB")}`;
  } catch {
    state.textContent = "no response from the server: this page shows the last data received";
  }
  setTimeout(poll, POLL_INTERVAL);
}

function start() {
  setReport(JSON.parse(byElementId("data").textContent));
  recallOpen();
  addFilters();
  addViews();
  views.push(drawPanels, drawFailures);
  byElementId("compare").addEventListener("click", () => { comparing = !comparing; drawPanels(); });
  addEventListener("keydown", ({ key }) => { if (key === "Escape") hidePreview(); });
  addTheme();
  byElementId("paper").hidden = !report.paper;
  drawLists();
  refresh();
  if (document.documentElement.dataset.live) poll();
}

start();
