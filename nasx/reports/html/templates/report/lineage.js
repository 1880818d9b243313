"use strict";
// Lineage of the front: its members and their ancestors, generation by generation.

function phylogenyChart() {
  const { nodes, links } = report.phylogeny;
  const places = new Map(nodes.map(([id, generation, height, isLeader]) => [id, { generation, height, isLeader }]));
  const isShown = (id) => passes(networks.get(id));
  const ends = links.filter((link) => link.every(isShown));
  const xs = ends.flatMap((link) => [...link.map((id) => places.get(id).generation), null]);
  const ys = ends.flatMap((link) => [...link.map((id) => places.get(id).height), null]);
  const of = (filter, name, marker) => {
    const own = nodes.map(([id]) => networks.get(id)).filter((network) => isShown(network.id) && filter(network));
    return points(own, ({ id }) => places.get(id).generation, ({ id }) => places.get(id).height, { name, marker });
  };
  const isFront = ({ id }) => report.front.includes(id);
  const traces = [
    { type: "scatter", mode: "lines", x: xs, y: ys, hoverinfo: "skip", showlegend: false, line: { color: color("cloud"), width: 1 } },
    of((network) => !isFront(network) && !places.get(network.id).isLeader, "ancestor",
      { color: color("paper"), size: 9, line: { color: color("muted"), width: 1.5 } }),
    of((network) => !isFront(network) && places.get(network.id).isLeader, "ancestor, non-dominated when proposed",
      { color: color("green"), size: 11, symbol: "diamond" }),
    of(isFront, "front", { color: color("front"), size: 13 }),
  ];
  return {
    traces: traces.filter((trace) => trace.x.length),
    layout: { xaxis: { title: { text: "generation" }, dtick: 1, tickformat: "d" }, yaxis: { visible: false } },
    label: `Lineage of the front: ${count(nodes.length, "network")}, ${count(links.length, "line")} from parent to child.`,
  };
}

function phylogenyRows() {
  const parents = Map.groupBy(report.phylogeny.links, ([, child]) => child);
  return {
    header: ["network", "generation", "status", "parents"],
    rows: report.phylogeny.nodes.filter(([id]) => passes(networks.get(id))).map(([id, generation, , isLeader]) => [
      openButton(id), String(generation),
      report.front.includes(id) ? "front" : isLeader ? "ancestor, non-dominated when proposed" : "ancestor",
      element("span", {}, (parents.get(id) ?? []).flatMap(([parent]) => [openButton(parent), " "])),
    ]),
  };
}
