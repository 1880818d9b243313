"use strict";
// Tables and sentences: summary of the run, motifs, failures, and commands that reproduce the run.

const SHOWN_FAILURES = 100; // of the networks without a result, the last ones

function drawLists() {
  document.title = `${report.name}: nasx report`;
  byElementId("title").textContent = report.name;
  byElementId("summary").replaceChildren(
    element("p", {}, `${count(report.networks.length, "network")}, ${report.front.length} on the front; ${report.trials}.`),
    element("p", {}, sentence([report.hypervolume, report.certainty].filter(Boolean).join("; "))),
    report.latency && element("p", {}, sentence(report.latency)),
    element("p", {}, sentence(report.noise)));
  byElementId("growth-note").textContent = "Hypervolume of all networks known after each trial, from "
    + (report.estimated ? "their estimates at the end of the run" : "the means of their trainings, which are optimistic")
    + ". Training a known network again does not change it. Filters do not apply.";
  drawLineageSentence();
  drawMotifs();
  drawFailures();
  if (report.paper) {
    byElementId("paper-text").textContent = `${report.paper.sentence}. Difference: `
      + `${report.paper.difference > 0 ? "+" : ""}${report.paper.difference.toFixed(4)}. Source: ${report.paper.source}.`;
  }
  byElementId("facts").replaceChildren(table(["property", "value"], [["run directory", report.run_dir], ...report.facts], "facts of the run"));
  byElementId("reproduce").replaceChildren(...report.reproduce.map((command) => copyable(command, "")));
  byElementId("config").textContent = report.config;
  for (const link of document.querySelectorAll("nav a")) link.hidden = byElementId(link.hash.slice(1)).hidden;
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function drawLineageSentence() {
  const { share_of_ancestors: ofAncestors, share_of_all: ofAll, left_out: hidden } = report.phylogeny;
  const parts = [];
  if (isNumber(ofAncestors)) {
    parts.push(`${percent(ofAncestors)} of the front's ancestors were non-dominated when proposed: no network of their `
      + `generation or an earlier one dominates them. Of all networks it is ${percent(ofAll)}.`);
  } else parts.push("No member of the front has parents: all were drawn at random.");
  if (hidden) parts.push(`${count(hidden, "more distant ancestor")} not shown.`);
  byElementId("phylogeny-text").textContent = parts.join(" ");
}

function drawMotifs() {
  byElementId("motifs").hidden = report.motifs.length === 0;
  const share = (n, of) => (of ? `${n} of ${of} (${(100 * n / of).toFixed(0)} %)`.replaceAll(" ", "\u00a0") : "-");
  byElementId("motif-tables").replaceChildren(...report.motifs.map(({ size, rows }) => element("section", {},
    element("h3", {}, size === 1 ? "Single choices" : `Sets of ${size} choices`),
    table(["motif", "on the front", "off the front", "frequency ratio"], rows.map(([traits, on, front, off, others]) => [
      element("span", {}, traits.flatMap((trait, i) => (i ? [element("br"), trait] : [trait]))),
      share(on, front), share(off, others), off ? ((on / front) / (off / others)).toFixed(1) : "only on the front",
    ]), `motifs of size ${size}`))));
}

function drawFailures() {
  const shown = shownNetworks().filter(({ status }) => status !== "complete");
  const reasons = Map.groupBy(shown, ({ status, reason }) => `${status}: ${reason.replaceAll("_", " ")}`);
  const rows = [...reasons].sort(([, a], [, b]) => b.length - a.length).map(([reason, own]) =>
    [reason, String(own.length), element("span", {}, own.slice(0, 5).flatMap(({ id }) => [openButton(id), " "]))]);
  const last = shown.slice(-SHOWN_FAILURES).reverse().map(({ id, reason, detail }) =>
    [openButton(id), reason.replaceAll("_", " "), detail.split("\n").at(-1)]);
  byElementId("failure-tables").replaceChildren(...(shown.length ? [
    table(["reason", "networks", "examples"], rows, "failures by reason"),
    element("details", {}, element("summary", {}, "Messages of the last ones"),
      table(["network", "reason", "message"], last, "messages of the last failures")),
  ] : [element("p", {}, "None among the networks shown.")]));
}
