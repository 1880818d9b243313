"use strict";
// Drawing of a cell: nodes in a row from input to output, one arc per edge, one color and dash pattern per operation.

const OPERATION_STYLES = {
  nor_conv_3x3: { label: "3×3 convolution", color: "--blue", width: 5 },
  nor_conv_1x1: { label: "1×1 convolution", color: "--sky", width: 5 },
  avg_pool_3x3: { label: "3×3 average pooling", color: "--orange", width: 4, dashes: "9 4" },
  skip_connect: { label: "skip connection", color: "--muted", width: 2 },
};
const STEP = 100, RADIUS = 15; // distance between nodes, radius of a node
const RISE = 62; // height of an arc per node that it passes

function styleOf(operation) {
  return OPERATION_STYLES[operation] ?? { label: operation, color: "--purple", width: 3, dashes: "2 3" };
}

function cellInWords(edges) {
  return edges.map(([source, target, operation]) => `${source} to ${target}: ${styleOf(operation).label}`).join(", ");
}

function drawCell(edges, { legend = true } = {}) {
  const output = Math.max(1, ...edges.map(([, target]) => target));
  const above = 20 + RISE / 2 * Math.max(...edges.map(([source, target]) => target - source - 1), 0);
  const below = edges.some(goesBelow) ? 25 + RISE / 2 : 20;
  const drawing = svg("svg", {
    viewBox: `-30 ${-above} ${output * STEP + 60} ${above + below}`, role: "img", class: "cell", "aria-label": `cell: ${cellInWords(edges)}`,
  });
  drawing.append(...edges.map((edge) => drawEdge(edge)));
  for (let node = 0; node <= output; node++) {
    const name = node === 0 ? "in" : node === output ? "out" : String(node);
    const isUsed = edges.some(([source, target]) => source === node || target === node);
    drawing.append(
      svg("circle", { cx: node * STEP, cy: 0, r: RADIUS, class: isUsed ? "node" : "node unused" }),
      svg("text", { x: node * STEP, y: 5, "text-anchor": "middle" }, name));
  }
  return legend ? element("figure", { class: "drawing" }, drawing, legendOf(edges)) : drawing;
}

function drawEdge([source, target, operation]) {
  const { label, color, width, dashes } = styleOf(operation);
  const span = target - source;
  const middle = (source + target) / 2 * STEP, rise = (goesBelow([source, target]) ? 1 : -1) * RISE * (span - 1);
  const [x0, y0] = towards(source * STEP, middle, rise, RADIUS);
  const [x1, y1] = towards(target * STEP, middle, rise, RADIUS + 12);
  const [tipX, tipY] = towards(target * STEP, middle, rise, RADIUS + 1);
  const [acrossX, acrossY] = [(y1 - tipY) * 0.5, (tipX - x1) * 0.5];
  const stroke = `stroke: var(${color}); stroke-width: ${width}; fill: none; stroke-dasharray: ${dashes ?? "none"}`;
  const line = svg("path", { d: `M${x0} ${y0} Q${middle} ${rise} ${x1} ${y1}` });
  line.style.cssText = stroke;
  const head = svg("path", {
    d: `M${tipX} ${tipY} L${x1 + acrossX} ${y1 + acrossY} L${x1 - acrossX} ${y1 - acrossY} Z`,
  });
  head.style.cssText = `fill: var(${color})`;
  return svg("g", {}, svg("title", {}, `${source} → ${target}: ${label}`), line, head);
}

// Neighboring arcs are on opposite sides, so that none cross in a cell of four nodes.
function goesBelow([source, target]) {
  return target - source === 2 && source % 2 === 1;
}

function towards(x, goalX, goalY, length) {
  const distance = Math.hypot(goalX - x, goalY);
  return [x + (goalX - x) * length / distance, goalY * length / distance];
}

function legendOf(edges) {
  const operations = [...new Set(edges.map(([, , operation]) => operation))].sort();
  return element("figcaption", { class: "legend" }, operations.map((operation) => {
    const { label, color, width, dashes } = styleOf(operation);
    const line = svg("line", { x1: 0, x2: 30, y1: 6, y2: 6 });
    line.style.cssText = `stroke: var(${color}); stroke-width: ${width}; stroke-dasharray: ${dashes ?? "none"}`;
    return element("span", {}, svg("svg", { width: 30, height: 12, "aria-hidden": "true" }, line), ` ${label}`);
  }));
}
