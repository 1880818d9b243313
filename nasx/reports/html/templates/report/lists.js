"use strict";
// What is told in tables and sentences: the run, its motifs, its failures, and how to make it again.

const LEDGER_LIMIT = 100; // trials that failed, listed at once

function drawLists() {
  document.title = `${report.name}: nasx report`;
  byElementId("title").textContent = report.name;
  byElementId("summary").replaceChildren(
    element("p", {}, `${count(report.networks.length, "network")}, ${report.front.length} on the front; ${report.trials}.`),
    element("p", {}, sentence([report.hypervolume, report.certainty].filter(Boolean).join("; "))),
    element("p", {}, sentence(report.noise)));
  byElementId("growth-note").textContent = "Of the networks known after each trial, "
    + (report.estimated ? "judged by their estimates at the end" : "judged by the means of their trainings, which are optimistic")
    + ". Training a known network again adds nothing. Filters do not change it.";
  drawPhylogenySentence();
  drawMotifs();
  drawFailures();
  if (report.paper) {
    byElementId("paper-text").textContent = `${report.paper.sentence}. Difference: `
      + `${report.paper.difference > 0 ? "+" : ""}${report.paper.difference.toFixed(4)}. Source: ${report.paper.source}.`;
  }
  byElementId("facts").replaceChildren(table(["what", "value"], [["run directory", report.place], ...report.facts], "facts of the run"));
  byElementId("reproduce").replaceChildren(...report.reproduce.map((command) => copyable(command, "")));
  byElementId("config").textContent = report.config;
  for (const link of document.querySelectorAll("nav a")) link.hidden = byElementId(link.hash.slice(1)).hidden;
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function drawPhylogenySentence() {
  const { share_of_ancestors: among, share_of_all: all, left_out: left } = report.phylogeny;
  const parts = [];
  if (isNumber(among)) parts.push(`Of the front's ancestors ${percent(among)} led their generation (nothing asked for by then dominates them); of all networks ${percent(all)} did.`);
  else parts.push("No member of the front has parents: it was drawn at random.");
  if (left) parts.push(`${count(left, "more distant ancestor")} left out.`);
  byElementId("phylogeny-text").textContent = parts.join(" ");
}

function drawMotifs() {
  byElementId("motifs").hidden = report.motifs.length === 0;
  const share = (n, of) => (of ? `${n} of ${of} (${(100 * n / of).toFixed(0)} %)`.replaceAll(" ", "\u00a0") : "-");
  byElementId("motif-tables").replaceChildren(...report.motifs.map(({ size, rows }) => element("section", {},
    element("h3", {}, size === 1 ? "Single choices" : `${size} together`),
    table(["motif", "on the front", "elsewhere", "times as frequent"], rows.map(([traits, on, front, off, others]) => [
      element("span", {}, traits.flatMap((trait, i) => (i ? [element("br"), trait] : [trait]))),
      share(on, front), share(off, others), off ? ((on / front) / (off / others)).toFixed(1) : "only here",
    ]), `motifs of size ${size}`))));
}

function drawFailures() {
  const shown = shownNetworks().filter(({ status }) => status !== "complete");
  const reasons = Map.groupBy(shown, ({ status, reason }) => `${status}: ${reason.replaceAll("_", " ")}`);
  const rows = [...reasons].sort(([, a], [, b]) => b.length - a.length).map(([reason, own]) =>
    [reason, String(own.length), element("span", {}, own.slice(0, 5).flatMap(({ id }) => [opener(id), " "]))]);
  const last = shown.slice(-LEDGER_LIMIT).reverse().map(({ id, reason, detail }) =>
    [opener(id), reason.replaceAll("_", " "), detail.split("\n").at(-1)]);
  byElementId("failure-tables").replaceChildren(...(shown.length ? [
    table(["reason", "networks", "for example"], rows, "failures by reason"),
    element("details", {}, element("summary", {}, "The last ones, and what they said"),
      table(["network", "reason", "what it said"], last, "the last failures")),
  ] : [element("p", {}, "None among the networks shown.")]));
}
