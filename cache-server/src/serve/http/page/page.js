// The page of `cache-shm serve`: asks /api/state each second and draws what it says.
"use strict";

const ROWS_MAX = 600;
const $ = (id) => document.getElementById(id);

// --- numbers for people ------------------------------------------------------------------------

const known = (number) => number !== null && number !== undefined;
const round = (number) => (number >= 100 ? Math.round(number) : Number(number.toPrecision(3))).toLocaleString("en");

function count(number) {
  if (!known(number)) return "–";
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]]) {
    if (number >= size) return `${round(number / (unit === "k" ? 1e3 : size))} ${unit}`;
  }
  return round(number);
}
function bytes(number) {
  if (!known(number)) return "–";
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (number >= size) return `${round(number / size)} ${unit}`;
  }
  return `${round(number)} B`;
}
function nanoseconds(number) {
  if (!known(number)) return "–";
  for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["µs", 1e3]]) {
    if (number >= size) return `${round(number / size)} ${unit}`;
  }
  return `${round(number)} ns`;
}
function time(seconds) {
  if (!known(seconds)) return "–";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${round(seconds / size)} ${unit}`;
  }
  return `${round(seconds)} s`;
}
const percent = (number) => (known(number) ? `${number.toFixed(number < 99.95 && number % 1 ? 1 : 0)} %` : "–");

// --- elements ----------------------------------------------------------------------------------

function make(tag, content = "", classes = "") {
  const element = document.createElement(tag);
  element.textContent = content;
  if (classes) element.className = classes;
  return element;
}
function draw(tag, attributes, content = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = content;
  return element;
}
function pairs(list, entries) {
  list.replaceChildren(
    ...entries.flatMap(([name, value]) => [make("dt", name), make("dd", value)]),
  );
}
function table(body, lines, words) {
  const cells = (line) => {
    const row = make("tr");
    row.append(...line.map((cell) => make("td", cell, cell === "dead" ? "dead" : "")));
    return row;
  };
  body.replaceChildren(...(lines.length ? lines.map(cells) : [cells([words])]));
}

// --- what is known -----------------------------------------------------------------------------

let rows = [];
let at = {};
let picture = null;
let server = null;
let earlier = null;

const value = (row, column) => (row ? row[at[column]] : null);

// --- plots -------------------------------------------------------------------------------------

const PLOTS = [
  { name: "Hit ratio", show: percent, top: 100, lines: [["hit_percent", "hits"]] },
  { name: "Operations/s, all processes", show: count, lines: [["gets", "reads"], ["sets", "writes"], ["deletes", "deletes"]] },
  { name: "Dropped/s", show: count, lines: [["evictions", "evicted"], ["expirations", "expired"]] },
  { name: "A read from memory", show: nanoseconds, lines: [["read_p50_ns", "half within"], ["read_p99_ns", "99 % within"]] },
  { name: "Commands/s, this server", show: count, lines: [["commands", "commands"]] },
  { name: "A command in this server", show: nanoseconds, lines: [["command_p50_ns", "half within"], ["command_p99_ns", "99 % within"]] },
  { name: "Bytes", show: bytes, ceiling: binary, lines: [["live_bytes", "live"], ["free_bytes", "free"]] },
  { name: "Items", show: count, lines: [["items", "items"]] },
];
const CLASSES = ["a", "b", "c"];
const LEFT = 62;
const BOTTOM = 18;

class Plot {
  constructor(plan) {
    this.plan = plan;
    this.chosen = null;
    const figure = make("figure");
    this.svg = draw("svg", { tabindex: "0", role: "img" });
    this.says = make("output");
    const legend = make("ul", "", "legend");
    plan.lines.forEach(([, label], index) => {
      const item = make("li");
      const sample = draw("svg", { viewBox: "0 0 24 10", "aria-hidden": "true" });
      sample.append(draw("path", { d: "M0 5H24", class: CLASSES[index] }));
      item.append(sample, label);
      legend.append(item);
    });
    figure.append(make("figcaption", plan.name), this.svg, this.says, legend);
    $("plots").append(figure);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.choose(null));
    this.svg.addEventListener("blur", () => this.choose(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  shown() {
    return rows.slice(-Number($("range").value));
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT);
    const range = Number($("range").value);
    const missing = range - this.shown().length;
    this.choose(Math.round(share * (range - 1)) - missing);
  }

  key(event) {
    const last = this.shown().length - 1;
    const now = this.chosen ?? last;
    const moves = { ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now - 10, PageDown: now + 10, Home: 0, End: last };
    if (event.key === "Escape") return this.choose(null);
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.says.setAttribute("aria-live", "polite");
    this.choose(moves[event.key]);
  }

  choose(index) {
    this.chosen = index === null ? null : Math.max(0, Math.min(this.shown().length - 1, index));
    this.render();
  }

  render() {
    const { plan, svg } = this;
    const all = this.shown();
    const range = Number($("range").value);
    const { clientWidth: width, clientHeight: height } = svg;
    if (!width || !all.length) return;
    const highest = Math.max(...plan.lines.flatMap(([column]) => all.map((row) => value(row, column) ?? 0)));
    const top = plan.top ?? (plan.ceiling ?? ceiling)(highest);
    const x = (index) => LEFT + ((index + range - all.length) / (range - 1)) * (width - LEFT - 2);
    const y = (number) => 8 + (1 - number / top) * (height - BOTTOM - 8);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const level = y(top * share);
      parts.push(draw("line", { class: "grid", x1: LEFT, x2: width, y1: level, y2: level }));
      parts.push(draw("text", { x: LEFT - 6, y: level + 4, "text-anchor": "end" }, plan.show(top * share)));
    }
    parts.push(draw("text", { x: LEFT, y: height - 3 }, `${range / 60} min ago`));
    parts.push(draw("text", { x: width, y: height - 3, "text-anchor": "end" }, "now"));
    plan.lines.forEach(([column], index) => {
      let path = "";
      let isOpen = false;
      all.forEach((row, position) => {
        const number = value(row, column);
        if (!known(number)) {
          isOpen = false;
          return;
        }
        path += `${isOpen ? "L" : "M"}${x(position).toFixed(1)} ${y(Math.min(number, top)).toFixed(1)}`;
        isOpen = true;
      });
      parts.push(draw("path", { d: path, class: CLASSES[index] }));
    });
    if (this.chosen !== null) {
      const place = x(this.chosen);
      parts.push(draw("line", { class: "moment", x1: place, x2: place, y1: 8, y2: height - BOTTOM }));
    }
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren(...parts);
    const row = all[this.chosen ?? all.length - 1];
    const numbers = plan.lines.map(([column, label]) => `${label} ${plan.show(value(row, column))}`).join(", ");
    const moment = this.chosen === null ? "now" : new Date(value(row, "unix_ms")).toLocaleTimeString();
    this.says.textContent = `${moment}: ${numbers}`;
    svg.setAttribute("aria-label", `${plan.name}. Now: ${plan.lines.map(([column, label]) => `${label} ${plan.show(value(all.at(-1), column))}`).join(", ")}`);
  }
}

// The next round number that is not below.
function ceiling(number) {
  if (number <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(number));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= number);
}

// The next power of two that is not below.
function binary(number) {
  return number <= 1 ? 1 : 2 ** Math.ceil(Math.log2(number));
}

// --- memory ------------------------------------------------------------------------------------

const PARTS = ["main", "small", "index", "condemned", "fixed", "free"];

function showMemory() {
  const total = PARTS.reduce((sum, part) => sum + picture.memory[part], 0) || 1;
  const bar = PARTS.map((part) => {
    const span = make("span", "", `of-${part}`);
    span.style.flexGrow = String(picture.memory[part] / total);
    return span;
  });
  $("memory").replaceChildren(...bar);
  const said = PARTS.map((part) => `${part} ${bytes(picture.memory[part])}`);
  $("memory").setAttribute("aria-label", `Memory: ${said.join(", ")}`);
  $("memory-legend").replaceChildren(...PARTS.map((part, index) => entry(`of-${part}`, said[index])));
}

function entry(classes, text) {
  const item = make("li");
  item.append(make("i", "", classes), text);
  return item;
}

// --- the heat map ------------------------------------------------------------------------------

const heat = { columns: 1, size: 12, chosen: null };

function hue(cell) {
  if (cell.queue === "main") return "--main";
  if (cell.queue === "small") return "--small";
  if (cell.use === "index") return "--index";
  return cell.use === "free" ? null : "--other";
}

function showHeat() {
  const canvas = $("heat");
  const cells = picture.segments;
  const width = canvas.clientWidth;
  heat.size = Math.max(8, Math.min(22, Math.floor(Math.sqrt((width * 260) / cells.length))));
  heat.columns = Math.max(1, Math.floor(width / heat.size));
  const height = Math.ceil(cells.length / heat.columns) * heat.size;
  const scale = window.devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.height = `${height}px`;
  const styles = getComputedStyle(document.documentElement);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  cells.forEach((cell, index) => {
    const left = (index % heat.columns) * heat.size;
    const top = Math.floor(index / heat.columns) * heat.size;
    const name = hue(cell);
    const line = styles.getPropertyValue("--line");
    if (name) {
      pen.fillStyle = `rgba(${styles.getPropertyValue(name)}, ${0.2 + 0.8 * cell.live_share})`;
      pen.fillRect(left, top, heat.size - 1, heat.size - 1);
    }
    pen.lineWidth = index === heat.chosen ? 2 : 1;
    pen.strokeStyle = index === heat.chosen ? styles.getPropertyValue("--ink") : line;
    pen.strokeRect(left + 0.5, top + 0.5, heat.size - 2, heat.size - 2);
  });
  sayHeat();
}

function sayHeat() {
  const cells = picture.segments;
  const cell = cells[heat.chosen];
  if (!cell) {
    const uses = {};
    cells.forEach((one) => (uses[one.queue ?? one.use] = (uses[one.queue ?? one.use] ?? 0) + 1));
    const said = Object.entries(uses).map(([use, many]) => `${many} ${use}`);
    $("heat-says").textContent = `${cells.length} cells: ${said.join(", ")}`;
    return;
  }
  const which = cell.count > 1 ? `Segments ${cell.first} to ${cell.first + cell.count - 1}` : `Segment ${cell.first}`;
  const age = known(cell.age_ms) ? `, ${time(cell.age_ms / 1000)} in its queue` : "";
  const queue = cell.queue ? `, ${cell.queue} queue` : "";
  $("heat-says").textContent = `${which}: ${cell.use}${queue}, ${percent(cell.live_share * 100)} lives${age}`;
}

function chooseCell(index) {
  heat.chosen = index === null ? null : Math.max(0, Math.min(picture.segments.length - 1, index));
  showHeat();
}

$("heat").addEventListener("pointermove", (event) => {
  if (!picture) return;
  const box = $("heat").getBoundingClientRect();
  const column = Math.min(heat.columns - 1, Math.floor((event.clientX - box.left) / heat.size));
  chooseCell(Math.floor((event.clientY - box.top) / heat.size) * heat.columns + column);
});
$("heat").addEventListener("pointerleave", () => picture && chooseCell(null));
$("heat").addEventListener("keydown", (event) => {
  if (!picture) return;
  const now = heat.chosen ?? 0;
  const moves = {
    ArrowLeft: now - 1, ArrowRight: now + 1, ArrowUp: now - heat.columns, ArrowDown: now + heat.columns,
    Home: 0, End: picture.segments.length - 1,
  };
  if (event.key === "Escape") return chooseCell(null);
  if (!(event.key in moves)) return;
  event.preventDefault();
  chooseCell(heat.chosen === null ? 0 : moves[event.key]);
});
$("heat-legend").append(
  entry("of-main", "main queue: was asked for again"),
  entry("of-small", "small queue: new"),
  entry("of-index", "index"),
  entry("of-other", "being reclaimed, or part of a large value"),
  entry("of-free", "free"),
);

// --- tiles and tables --------------------------------------------------------------------------

function showTiles() {
  const { stats, rates, latency, memory } = picture;
  const used = stats.region_bytes - memory.free;
  const tiles = [
    ["Hit ratio", percent(rates?.hit_percent), `${percent(picture.hit_percent)} in all`],
    ["Reads/s", count(rates?.gets), ""],
    ["Writes/s", count(rates?.sets), `${count(rates?.deletes)} deletes/s`],
    ["Evictions/s", count(rates?.evictions), `${count(rates?.expirations)} expired/s`],
    ["A read", nanoseconds(latency?.p50_ns), `99 %: ${nanoseconds(latency?.p99_ns)}`],
    ["A command", nanoseconds(picture.server.p50_ns), `99 %: ${nanoseconds(picture.server.p99_ns)}`],
    ["Items", count(stats.items), `${bytes(stats.live_bytes)} live`],
    ["Memory in use", bytes(used), `of ${bytes(stats.region_bytes)}`],
    ["Processes", count(stats.participants), `${count(picture.server.clients)} connections here`],
    ["Unread values stay", stats.evicted_age_ms ? time(stats.evicted_age_ms / 1000) : "–", "at the last eviction"],
  ];
  $("tiles").replaceChildren(...tiles.map(([name, number, more]) => {
    const tile = make("div");
    const shown = make("dd", number);
    shown.append(make("small", more || "\u00a0"));
    tile.append(make("dt", name), shown);
    return tile;
  }));
}

const nameOf = (space) => space.name ?? `(base64) ${space.name_base64}`;

function showTables() {
  const hottest = [...(picture.rates?.namespaces ?? [])].sort((one, other) => other.gets + other.sets - one.gets - one.sets);
  const spaces = hottest.slice(0, 20).map((space) => [
    nameOf(space) || "(without a name)", count(space.gets), percent(space.hit_percent), count(space.sets), count(space.evictions),
  ]);
  table($("spaces"), spaces, "Not known yet");
  const seconds = earlier ? (picture.unix_ms - earlier.unix_ms) / 1000 : 0;
  const sum = ({ counters }) => counters.hits + counters.misses + counters.sets + counters.deletes;
  const processes = picture.participants.map((one) => {
    const was = earlier?.participants.find((other) => other.slot === one.slot && other.pid === one.pid);
    const rate = was && seconds > 0 ? Math.max(0, sum(one) - sum(was)) / seconds : null;
    const locks = one.stripes_locked + one.lanes_locked;
    const state = one.self ? "this server" : one.alive ? "alive" : "dead";
    return [String(one.pid), time(one.attached_ms / 1000), count(rate), String(one.read_pins + one.write_pins), String(locks), String(one.leases.length), state];
  });
  table($("processes"), processes, "Nobody");
}

// --- the look-up -------------------------------------------------------------------------------

let looked = null;

function form() {
  const fields = new URLSearchParams();
  fields.set("namespace", $("namespace").value);
  fields.set($("hex").checked ? "key_hex" : "key", $("hex").checked ? $("key").value.replace(/\s/g, "") : $("key").value);
  return fields;
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

$("lookup").addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = form();
  try {
    const found = await ask(`/api/key?${fields}`);
    looked = { found, fields };
    $("answer").textContent = found.found ? "Found." : "There is no such key.";
    showFound();
  } catch (error) {
    looked = null;
    $("found").hidden = true;
    $("answer").textContent = error.message;
  }
});

function showFound() {
  const { found } = looked;
  $("found").hidden = !found.found;
  if (!found.found) return;
  pairs($("facts"), [
    ["Key", found.key ?? `(base64) ${found.key_base64}`],
    ["Namespace", nameOf({ name: found.namespace, name_base64: found.namespace_base64 }) || "(without a name)"],
    ["Kind", found.kind],
    ["Bytes", found.bytes.toLocaleString("en")],
    ["Time left", known(found.ttl_ms) ? time(found.ttl_ms / 1000) : "for ever"],
    ["Version", String(found.version)],
    ["Queue", found.queue ? `${found.queue}, ${found.uses} uses since eviction last looked` : "–"],
    ["Tags", known(found.tags) ? String(found.tags) : "–"],
  ]);
  $("delete").hidden = !server?.writes;
  $("delete").textContent = "Delete this key";
  showValue();
}

function showValue() {
  const { found } = looked;
  const isKnown = known(found.hex);
  let text = "The value is too large to be shown here.";
  if (isKnown && $("form").value === "hex") {
    const more = found.bytes * 2 > found.hex.length ? "\n…" : "";
    text = found.hex.replace(/(..)(?=.)/g, "$1 ") + more;
  } else if (isKnown && known(found.value_text)) {
    text = found.value_text;
  } else if (isKnown) {
    text = "value_base64" in found ? new TextDecoder().decode(Uint8Array.from(atob(found.value_base64), (one) => one.charCodeAt(0))) : String(found.value);
  }
  $("value").textContent = text;
}

$("form").addEventListener("change", () => looked && showValue());

$("delete").addEventListener("click", async () => {
  const button = $("delete");
  if (button.dataset.sure !== "yes") {
    button.dataset.sure = "yes";
    button.textContent = "Press again to delete it";
    return;
  }
  delete button.dataset.sure;
  try {
    const options = { method: "POST", body: looked.fields, headers: { "X-CSRF-Token": server.csrf } };
    const { deleted } = await ask("/api/delete", options);
    $("answer").textContent = deleted ? "Deleted." : "It was gone already.";
    $("found").hidden = true;
  } catch (error) {
    $("answer").textContent = error.message;
    button.textContent = "Delete this key";
  }
});
$("delete").addEventListener("blur", () => {
  delete $("delete").dataset.sure;
  $("delete").textContent = "Delete this key";
});

// --- once a second -----------------------------------------------------------------------------

const plots = PLOTS.map((plan) => new Plot(plan));

function show() {
  if (!picture) return;
  $("name").textContent = picture.name ?? "a private region";
  document.title = `${$("name").textContent} – cache-shm`;
  const saved = server.snapshots ? `, last snapshot ${server.snapshots.unix_ms ? new Date(server.snapshots.unix_ms).toLocaleTimeString() : "none yet"}` : "";
  $("about").textContent = `cache-shm ${server.version}, up ${time(server.uptime_seconds)}${saved}`;
  plots.forEach((plot) => plot.render());
  showTiles();
  showMemory();
  showHeat();
  showTables();
}

function trouble(words) {
  $("trouble").hidden = !words;
  $("trouble").textContent = words;
}

async function look() {
  try {
    const since = rows.length ? value(rows.at(-1), "unix_ms") : 0;
    const answer = await fetch(`/api/state?since=${since}`);
    if (answer.status === 401) throw new Error("The token is another one by now: open /?token=… again.");
    if (!answer.ok) throw new Error(`The server refuses: ${(await answer.text()).trim()}`);
    const state = await answer.json();
    at = Object.fromEntries(state.columns.map((column, index) => [column, index]));
    rows = rows.concat(state.rows).slice(-ROWS_MAX);
    server = state.server;
    if (state.picture && state.picture.unix_ms !== picture?.unix_ms) {
      earlier = picture;
      picture = state.picture;
    }
    show();
    trouble("");
  } catch (error) {
    trouble(error instanceof TypeError ? "The server does not answer. What is shown is what was last known." : error.message);
  }
}

async function go() {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function theme() {
  const chosen = $("theme").value;
  const preferred = prefersDark.matches ? "dark" : "light";
  document.documentElement.dataset.theme = chosen === "auto" ? preferred : chosen;
  localStorage.setItem("theme", chosen);
  show();
}

$("theme").value = localStorage.getItem("theme") ?? "auto";
$("theme").addEventListener("change", theme);
prefersDark.addEventListener("change", theme);
$("range").addEventListener("change", show);
window.addEventListener("resize", show);
theme();
go();
