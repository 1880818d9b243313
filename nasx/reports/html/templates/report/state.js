"use strict";
// State of the page: data, filters, open networks. Every change is followed by a call of `refresh`.

let report = null;          // data of run_data.py
let networks = new Map();   // id -> network

const filters = {
  hidden: new Set(),        // statuses filtered out
  generation: [null, null], // lowest and highest; null: no bound
  ranges: {},               // objective -> [lowest, highest], in the metric's own unit
};
const opened = [];            // ids of the networks shown, one or two
let comparing = false;      // true: the next network opens next to the first
const views = [];           // functions that redraw after a change

function refresh() {
  for (const view of views) view();
}

function setReport(data) {
  report = data;
  const roles = new Map([...data.rivals.map((id) => [id, "rival"]), ...data.front.map((id) => [id, "front"]),
    [data.knee, "knee"]]);
  networks = new Map(data.networks.map((network, place) =>
    [network.id, { ...network, place, role: roles.get(network.id) ?? network.status }]));
  for (const id of [...opened]) if (!networks.has(id)) closeNetwork(id);
}

function within(value, [low, high]) {
  if (low === null && high === null) return true;
  return value !== undefined && value !== null && (low === null || value >= low) && (high === null || value <= high);
}

function passes(network) {
  return !filters.hidden.has(network.status)
    && within(network.generation, filters.generation)
    && Object.entries(filters.ranges).every(([metric, range]) => within(network.metrics[metric], range));
}

function shownNetworks() {
  return [...networks.values()].filter(passes);
}

function openNetwork(id) {
  if (!networks.has(id)) return;
  if (!opened.includes(id)) {
    if (comparing && opened.length) opened.splice(1, 1, id);
    else opened.splice(0, opened.length, id);
  }
  comparing = false;
  rememberOpen();
  refresh();
  byElementId(`network-${id}`)?.focus({ preventScroll: true });
  byElementId("networks").scrollIntoView({ block: "start" });
}

function closeNetwork(id) {
  const place = opened.indexOf(id);
  if (place >= 0) opened.splice(place, 1);
  comparing = false;
  rememberOpen();
}

// Store the open networks in the address, so that a link to the report opens them.
function rememberOpen() {
  history.replaceState(null, "", opened.length ? `#open=${opened.join(",")}` : location.pathname + location.search);
}

function recallOpen() {
  const ids = location.hash.startsWith("#open=") ? location.hash.slice(6).split(",") : [];
  opened.splice(0, opened.length, ...ids.filter((id) => networks.has(id)).slice(0, 2));
}
