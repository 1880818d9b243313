"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const byCell = new Map(data.items.map((item, index) => [item.cell, index]));
const storageKey = "nasx-review:" + data.key;
let decisions = {}; // cell of the image -> {action, label, reason}
let others = data.earlier.map((row) => row.slice()); // rows about images that are not on this page
let undone = []; // [index, decision before]
let current = 0;
let isStored = true;

function load() {
  try {
    const saved = JSON.parse(localStorage.getItem(storageKey) || "{}");
    decisions = saved.decisions || {};
    others = saved.others || others;
    current = Math.min(saved.current || 0, Math.max(data.items.length - 1, 0));
  } catch {
    isStored = false;
  }
}

function store() {
  try {
    localStorage.setItem(storageKey, JSON.stringify({ decisions, others, current }));
  } catch {
    isStored = false;
  }
  if (!isStored) say("This browser does not keep the review: save corrections.csv before you close the page.");
}

function say(text) {
  at("notice").textContent = text;
  at("notice").hidden = !text;
}

function decide(action, label) {
  const item = data.items[current];
  if (!item) return;
  undone.push([current, decisions[item.cell]]);
  decisions[item.cell] = { action, label: label === undefined ? null : label, reason: at("reason").value };
  say("");
  move(nextOpen());
}

function nextOpen() {
  for (let step = 1; step < data.items.length; step++) {
    const index = (current + step) % data.items.length;
    if (!decisions[data.items[index].cell]) return index;
  }
  return current;
}

function undo() {
  if (!undone.length) return;
  const [index, before] = undone.pop();
  if (before) decisions[data.items[index].cell] = before;
  else delete decisions[data.items[index].cell];
  move(index);
}

function move(index) {
  if (!data.items.length) return;
  current = Math.max(0, Math.min(index, data.items.length - 1));
  store();
  draw();
}

function relabel(label) {
  if (label === data.items[current].label) decide("keep");
  else decide("relabel", label);
}

function typed() {
  const text = at("class").value.trim();
  const folded = text.toLocaleLowerCase();
  let found = data.classes.indexOf(text);
  if (found < 0) {
    const near = data.classes.map((name, c) => [name.toLocaleLowerCase(), c]);
    const matches = near.filter(([name]) => name === folded);
    const starts = matches.length ? matches : near.filter(([name]) => name.startsWith(folded));
    if (folded && starts.length === 1) found = starts[0][1];
  }
  if (found < 0) {
    say(`No class, or more than one, is called ${JSON.stringify(text)}.`);
    return;
  }
  at("class").value = ""; // before the event "change" of leaving the field
  at("class").blur();
  relabel(found);
}

function inWords(decision) {
  if (!decision) return "none yet";
  if (decision.action === "relabel") return `relabel to ${data.classes[decision.label]}`;
  return decision.action === "keep" ? "keep the label" : "drop the image";
}

function draw() {
  const done = data.items.filter((item) => decisions[item.cell]).length;
  at("progress").textContent = data.items.length
    ? `${done} of ${data.items.length} reviewed; image ${current + 1}`
    : "There are no suspects to review.";
  at("bar").max = Math.max(data.items.length, 1);
  at("bar").value = done;
  const item = data.items[current];
  at("one").hidden = !item;
  if (!item) return;
  const decision = decisions[item.cell];
  at("image").src = item.source;
  at("image").alt = `Image ${item.name}`;
  at("image").className = item.small ? "small" : "";
  at("name").textContent = item.name;
  at("label").textContent = data.classes[item.label];
  at("label-share").textContent = `(probability ${item.labelShare})`;
  at("predicted").textContent = data.classes[item.predicted];
  at("predicted-share").textContent = `(probability ${item.predictedShare})`;
  at("suggested").textContent = data.classes[item.others[0]];
  at("decision").textContent = inWords(decision);
  at("keep").setAttribute("aria-pressed", String(decision?.action === "keep"));
  at("drop").setAttribute("aria-pressed", String(decision?.action === "drop"));
  at("accept").setAttribute("aria-pressed", String(decision?.label === item.others[0]));
  at("reason").value = decision?.reason || "";
  at("class").value = "";
  at("others").replaceChildren(...item.others.map(otherClass));
}

function otherClass(label, index) {
  const entry = document.createElement("li"), button = document.createElement("button"), key = document.createElement("kbd");
  const name = document.createElement("bdi");
  key.textContent = String(index + 1);
  name.textContent = data.classes[label];
  name.dir = "auto";
  button.type = "button";
  button.append(key, " ", name);
  button.addEventListener("click", () => relabel(label));
  entry.append(button);
  return entry;
}

// --- CSV: image, action, label, reason. Names are cells already: text that spreadsheets run has its apostrophe

function quoted(cell) {
  return /[",;\t\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

function harmless(text) {
  const line = text.replace(/\s+/g, " ").trim();
  return /^[=+\-@＝＋－＠]/.test(line) ? "'" + line : line;
}

function csv() {
  const rows = [["image", "action", "label", "reason"], ...others];
  for (const item of data.items) {
    const made = decisions[item.cell];
    if (made) rows.push([item.cell, made.action, made.action === "relabel" ? data.cells[made.label] : "", harmless(made.reason)]);
  }
  return rows.map((row) => row.map(quoted).join(",") + "\n").join("");
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
  link.download = "corrections.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function parse(text) {
  const rows = [[""]];
  let isQuoted = false;
  const first = text.split(/\r?\n/, 1)[0];
  const separator = [",", ";", "\t"].reduce((a, b) => (first.split(b).length > first.split(a).length ? b : a));
  for (let i = 0; i < text.length; i++) {
    const c = text[i], row = rows[rows.length - 1];
    if (isQuoted && c === '"' && text[i + 1] === '"') row[row.length - 1] += text[++i];
    else if (c === '"' && (isQuoted || row[row.length - 1] === "")) isQuoted = !isQuoted;
    else if (isQuoted) row[row.length - 1] += c;
    else if (c === separator) row.push("");
    else if (c === "\n") rows.push([""]);
    else if (c !== "\r") row[row.length - 1] += c;
  }
  return rows.filter((row) => row.some((cell) => cell.trim()));
}

function take(text) {
  const [header, ...rows] = parse(text.replace(/^\ufeff/, ""));
  const names = (header || []).map((name) => name.trim().toLowerCase());
  const [image, action, label, reason] = ["image", "action", "label", "reason"].map((name) => names.indexOf(name));
  if (image < 0 || action < 0 || label < 0) {
    say("This is no file of corrections: its first line must be image,action,label,reason.");
    return;
  }
  const taken = new Map(others.map((row) => [row[0], row]));
  let here = 0;
  for (const row of rows) {
    const what = (row[action] || "").trim().toLowerCase(), known = byCell.get(row[image]);
    if (!what) continue;
    const chosen = data.cells.indexOf(row[label]) < 0 ? data.classes.indexOf(row[label]) : data.cells.indexOf(row[label]);
    const why = reason < 0 ? "" : row[reason] || "";
    const isClear = what === "keep" || what === "drop" || (what === "relabel" && chosen >= 0);
    if (known === undefined || !isClear) {
      taken.set(row[image], [row[image], what, row[label] || "", why]); // kept as it is
    } else {
      decisions[row[image]] = { action: what, label: what === "relabel" ? chosen : null, reason: why.replace(/^'/, "") };
      here++;
    }
  }
  others = [...taken.values()];
  undone = [];
  move(nextOpen());
  say(`${here} decisions on these images, and ${others.length} on others, are in the file that is saved.`);
}

// --- keys and buttons

const KEYS = {
  k: () => decide("keep"),
  d: () => decide("drop"),
  u: undo,
  r: () => at("class").focus(),
  Enter: () => relabel(data.items[current].others[0]),
  ArrowLeft: () => move(current - 1),
  ArrowRight: () => move(current + 1),
  "?": () => at("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("keys").open) return;
  const place = event.target;
  if (place.tagName === "INPUT") {
    if (event.key === "Escape") place.blur();
    if (event.key === "Enter" && place.id === "class") typed();
    if (event.key === "Enter" && place.id === "reason") place.blur();
    return;
  }
  if (event.key === "Enter" && ["BUTTON", "A", "LABEL"].includes(place.tagName)) return; // the button's own key
  if (!data.items.length && event.key !== "?") return;
  const other = /^[1-9]$/.test(event.key) ? data.items[current].others[Number(event.key) - 1] : undefined;
  const act = other === undefined ? KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key] : () => relabel(other);
  if (!act) return;
  event.preventDefault();
  act();
});

at("keep").addEventListener("click", KEYS.k);
at("drop").addEventListener("click", KEYS.d);
at("accept").addEventListener("click", KEYS.Enter);
at("undo").addEventListener("click", undo);
at("help").addEventListener("click", KEYS["?"]);
at("previous").addEventListener("click", KEYS.ArrowLeft);
at("next").addEventListener("click", KEYS.ArrowRight);
at("save").addEventListener("click", save);
at("class").addEventListener("change", () => {
  if (data.classes.includes(at("class").value.trim())) typed(); // chosen with the mouse
});
at("reason").addEventListener("change", () => {
  const decision = decisions[data.items[current].cell];
  if (decision) {
    decision.reason = at("reason").value;
    store();
  }
});
at("load").addEventListener("change", async () => {
  const file = at("load").files[0];
  if (file) take(await file.text());
  at("load").value = "";
});

at("classes").replaceChildren(...data.classes.map((name) => Object.assign(document.createElement("option"), { value: name })));
load();
store();
draw();
