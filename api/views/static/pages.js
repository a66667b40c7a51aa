/* The script of the pages: charts that zoom, pages that follow a session, and signing in.
 *
 * Charts and pages come from the server. Nothing here makes HTML of a text: parts of a page are
 * replaced by the same parts of the page as the server renders it now.
 */

const POLL_MS = 1000;
const parts = (selector, root = document) => [...root.querySelectorAll(selector)];
const view = document.querySelector("[data-view]");

/* Charts */

const plotly = new Promise((resolve) => {
  const script = document.getElementById("plotly");
  if (window.Plotly) resolve(window.Plotly);
  else if (script) script.addEventListener("load", () => resolve(window.Plotly));
});

/* A time as the library takes one: by its local fields, and these are those of UTC in every zone.
 * The library shifts numbers to the zone of the browser. */
class Time extends Date {
  getTimezoneOffset() { return 0; }
  getMinutes() { return this.getUTCMinutes(); }
  getSeconds() { return this.getUTCSeconds(); }
  getMilliseconds() { return this.getUTCMilliseconds(); }
}

function timed({ data, layout }) {
  if (layout.xaxis.type !== "date") return { data, layout };
  const xaxis = { ...layout.xaxis, range: layout.xaxis.range?.map((time) => new Date(time).toISOString().slice(0, -1)) };
  const timed = data.map((trace) => ({ ...trace, x: trace.x.map((time) => time && new Time(time)) }));
  return { data: timed, layout: { ...layout, xaxis } };
}

function themed(chart) {
  const colours = getComputedStyle(document.documentElement);
  const layout = {
    ...chart.layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { ...chart.layout.font, color: colours.getPropertyValue("--text").trim() },
    hoverlabel: {
      bgcolor: colours.getPropertyValue("--panel").trim(),
      font: { color: colours.getPropertyValue("--text").trim() },
    },
    margin: { ...chart.layout.margin, ...(innerWidth < 640 ? { l: 58, r: 6 } : {}) },
  };
  return { data: chart.data, layout };
}

/* The library makes an element of every candle and of every marker, which is slow where they are many,
 * and measures every label of an axis to place its title. It gets the points, to hover and for the
 * legend; a path for all candles or markers of a kind, and titles at the edge, are drawn here. */
function lightened(chart) {
  const include = [];
  const data = chart.data.map((trace) => {
    if (trace.mode === "markers") return { ...trace, marker: { ...trace.marker, maxdisplayed: 1 } };
    if (trace.type !== "candlestick") return trace;
    for (const y of trace.low) if (!(y >= include[0])) include[0] = y;
    for (const y of trace.high) if (!(y <= include[1])) include[1] = y;
    const customdata = trace.x.map((_, at) => [trace.open[at], trace.high[at], trace.low[at]]);
    const hovertemplate =
      "%{x|%Y-%m-%d %H:%M}<br>open %{customdata[0]:,}<br>high %{customdata[1]:,}<br>" +
      "low %{customdata[2]:,}<br>close %{y:,}<extra></extra>";
    const width = trace.x.reduce((least, x, at) => (at ? Math.min(least, x - trace.x[at - 1]) : least), Infinity);
    return { ...trace, type: "scatter", mode: "none", y: trace.close, customdata, hovertemplate, width };
  });
  const layout = { ...chart.layout };
  if (include.length) layout.yaxis = { ...layout.yaxis, autorangeoptions: { include } };
  for (const name of titled(layout)) layout[name] = { ...layout[name], title: undefined };
  return { data, layout };
}

/* The names of the axes whose titles are drawn here: their labels keep clear of the edge. */
const titled = (layout) => Object.keys(layout).filter((name) => /^yaxis/.test(name) && !layout[name].automargin);

function svg(name, attributes, children = []) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function candlePath(trace, isUp, { xaxis, yaxis }) {
  const half = Math.min((xaxis.l2p(trace.width) - xaxis.l2p(0)) * 0.35, 12);
  const y = (price) => yaxis.l2p(price).toFixed(1);
  let path = "";
  for (let at = 0; at < trace.x.length; at++) {
    if (trace.close[at] >= trace.open[at] !== isUp) continue;
    const x = xaxis.l2p(+trace.x[at]);
    if (!(x > -half && x < xaxis._length + half)) continue;
    const [top, bottom] = isUp ? [trace.close[at], trace.open[at]] : [trace.open[at], trace.close[at]];
    const [left, middle, right] = [x - half, x, x + half].map((value) => value.toFixed(1));
    if (half < 1) path += `M${middle},${y(trace.high[at])}V${y(trace.low[at])}`;
    else path += `M${middle},${y(trace.high[at])}V${y(top)}M${middle},${y(bottom)}V${y(trace.low[at])}`;
    if (half >= 1) path += `M${left},${y(top)}H${right}V${y(bottom)}H${left}Z`;
  }
  return path;
}

/* The outline of a marker, from its middle: a cross or a triangle. */
function markerShape({ symbol, size }) {
  const radius = size / 2;
  const [a, b] = [0.35 * radius, 0.65 * radius];
  if (symbol === "x") return `m0,${-a}l${[b, -b, a, a, -b, b, b, b, -a, a, -b, -b, -b, b, -a, -a, b, -b, -b, -b]}Z`;
  const [side, up] = [1.15 * radius, symbol === "triangle-down" ? -radius : radius];
  return `m${-side},${up / 2}h${2 * side}l${-side},${-1.5 * up}Z`;
}

function markerPath({ x, y, marker }, { xaxis, yaxis }) {
  const shape = markerShape(marker);
  let path = "";
  for (let at = 0; at < x.length; at++) {
    const place = xaxis.l2p(+x[at]);
    if (!(place > -marker.size && place < xaxis._length + marker.size)) continue;
    path += `M${place.toFixed(1)},${yaxis.l2p(y[at]).toFixed(1)}${shape}`;
  }
  return path;
}

function pathsOf(trace, layout) {
  if (trace.visible === "legendonly") return [];
  if (trace.mode === "markers") {
    const { color, line } = trace.marker;
    return [["drawn-fills", { d: markerPath(trace, layout), fill: color, stroke: line.color, "stroke-width": line.width }]];
  }
  return [["increasing", true], ["decreasing", false]].flatMap(([name, isUp]) => {
    const { line, fillcolor } = trace[name] ?? {};
    return line ? [["drawn-candles", { d: candlePath(trace, isUp, layout), fill: fillcolor, stroke: line.color }]] : [];
  });
}

class Figure {
  constructor(element) {
    this.element = element;
    this.path = element.dataset.figure;
    this.symbol = null;
    this.range = null;
    this.isDrawing = false;
    this.wanted = 0;
  }

  address() {
    const address = new URL(this.path, location.href);
    if (this.symbol) address.searchParams.set("symbol", this.symbol);
    if (this.range) {
      address.searchParams.set("start_time", new Date(this.range[0]).toISOString());
      address.searchParams.set("end_time", new Date(this.range[1]).toISOString());
    }
    return address;
  }

  async read() {
    const answer = await fetch(this.address());
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.message);
    return body;
  }

  /* Draw what the server has of the range now; of several calls at once, the last one counts. */
  async draw() {
    const number = ++this.wanted;
    let chart;
    try {
      chart = await this.read();
    } catch (error) {
      return this.say(error.message);
    }
    await this.show(chart, number);
    this.say("");
  }

  async show(chart, number = ++this.wanted) {
    const library = await plotly;
    if (number !== this.wanted) return;
    this.chart = chart;
    this.isDrawing = true;
    const range = this.range ?? chart.layout.xaxis.range;
    /* What is shown is up to the page, the rest (such as hidden traces) to who looks. */
    const xaxis = { ...chart.layout.xaxis, range, uirevision: number };
    const kept = { data: chart.data, layout: { ...chart.layout, xaxis, uirevision: "kept" } };
    const { data, layout } = timed(themed(lightened(kept)));
    const isFirst = !this.element.classList.contains("drawn");
    this.element.classList.toggle("trading", Boolean(layout.yaxis3));
    const config = { responsive: true, displaylogo: false, scrollZoom: false, displayModeBar: false };
    await (isFirst ? library.newPlot : library.react)(this.element, data, layout, config);
    if (isFirst) {
      this.element.classList.add("drawn");
      this.element.on("plotly_relayout", (change) => this.zoomed(change));
      this.element.on("plotly_afterplot", () => this.paint());
      this.element.on("plotly_click", (event) => this.clicked(event));
    }
    if (isFirst) this.paint();
    this.isDrawing = false;
    this.element.dataset.drawn = String(Number(this.element.dataset.drawn ?? 0) + 1);
  }

  /* Draw candles below the rest of their plot, fills above it, and the titles of axes. */
  paint() {
    const layout = this.element._fullLayout;
    const titles = titled(this.chart.layout).map((name) => {
      const place = `rotate(-90) translate(${-layout[name]._offset - layout[name]._length / 2} 12)`;
      return svg("text", { transform: place }, [this.chart.layout[name].title?.text ?? ""]);
    });
    this.place(".infolayer", "append", "drawn-titles", titles);
    const paths = Object.groupBy(this.element.data.flatMap((trace) => pathsOf(trace, layout)), (path) => path[0]);
    for (const [name, how] of [["drawn-candles", "prepend"], ["drawn-fills", "append"]]) {
      this.place(".overplot > .xy", how, name, (paths[name] ?? []).map((path) => svg("path", path[1])));
    }
  }

  place(selector, how, name, children) {
    const parent = this.element.querySelector(selector);
    parent?.querySelector(`:scope > .${name}`)?.remove();
    parent?.[how](svg("g", { class: name }, children));
  }

  zoomed(change) {
    if (this.isDrawing || !this.element.dataset.figure) return;
    const start = change["xaxis.range[0]"] ?? change["xaxis.range"]?.[0];
    const end = change["xaxis.range[1]"] ?? change["xaxis.range"]?.[1];
    if (start === undefined && !change["xaxis.autorange"]) return;
    this.range = start === undefined ? null : [utc(start), utc(end)];
    this.draw();
  }

  zoom(range) {
    this.range = range;
    return this.draw();
  }

  clicked(event) {
    const point = event.points[0];
    if (point?.data.type !== "heatmap") return;
    const id = point.data.customdata[point.data.y.indexOf(point.y)]?.[point.data.x.indexOf(point.x)];
    if (id) location.href = `/backtests/${encodeURIComponent(id)}`;
  }

  say(text) {
    const place = document.querySelector("[data-chart-state]");
    if (place) place.textContent = text;
  }

  /* The fill after or before the middle of what is shown. */
  step(direction) {
    const times = this.chart.data
      .filter((trace) => trace.mode === "markers")
      .flatMap((trace) => trace.x)
      .sort((a, b) => a - b);
    const shown = this.range ?? this.element.layout.xaxis.range.map(utc);
    const middle = this.range ? (shown[0] + shown[1]) / 2 : direction > 0 ? shown[0] : shown[1];
    const width = Math.min(shown[1] - shown[0], 6 * 3600 * 1000);
    const next = direction > 0 ? times.find((t) => t > middle + 1) : times.findLast((t) => t < middle - 1);
    if (next !== undefined) return this.zoom([next - width / 2, next + width / 2]);
    /* The next one lies outside what was read. */
    if (this.range) return this.zoom([shown[0] + (direction * width) / 2, shown[1] + (direction * width) / 2]);
  }
}

/* Plotly writes times without a zone, and means UTC. */
function utc(time) {
  if (typeof time === "number") return time;
  const text = String(time).replace(" ", "T");
  return Date.parse(text.length === 10 ? `${text}T00:00Z` : `${text}Z`);
}

const figures = parts("[data-figure]").map((element) => new Figure(element));
const inline = document.querySelector("[data-inline-figure]");
const chart = figures.find((figure) => figure.element.closest("[data-view]")) ?? figures[0];
const symbols = document.querySelector("[data-symbol]");

if (symbols && chart) {
  symbols.addEventListener("change", () => {
    chart.symbol = symbols.value;
    chart.draw();
  });
}
figures.forEach((figure) => figure.draw());
if (inline) {
  const content = JSON.parse(document.getElementById("chart").textContent);
  if (content) new Figure(inline).show(content);
  else inline.remove();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const figure of figures) if (figure.chart) figure.show(figure.chart);
});

/* Rows and keys */

document.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-from]");
  if (row) showRow(row);
  if (event.target.closest("[data-whole]")) chart?.zoom(null);
});

function showRow(row) {
  if (!chart) return;
  parts("tr.chosen").forEach((other) => other.classList.remove("chosen"));
  row.classList.add("chosen");
  const [from, to] = [Number(row.dataset.from), Number(row.dataset.to)];
  chart.zoom([from, to]);
  chart.element.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey) return;
  if (event.key === "Enter" && event.target.matches("tr[data-from]")) showRow(event.target);
  if (event.key === "j" && chart?.chart) chart.step(1);
  if (event.key === "k" && chart?.chart) chart.step(-1);
});

/* Following */

const first = Number(view?.dataset.step);
let known = view?.dataset.step ? { step: first, seen: first, status: "running", at: performance.now() } : null;

function renew(page) {
  for (const part of parts("[data-live]")) {
    const now = page.getElementById(part.id);
    if (now) part.replaceWith(document.adoptNode(now));
  }
}

/* Read how far the session is and, if that is new, the page and the chart; stop when the session has ended. */
async function follow() {
  if (document.hidden) return wait();
  const path = view.dataset.follow;
  let isOver = false;
  try {
    const state = path ? await (await fetch(path)).json() : null;
    const now = performance.now();
    if (state && known && state.step === known.step && state.status === known.status) return wait();
    const speed = state && known ? ((state.step - known.seen) / (now - known.at)) * 1000 : 0;
    const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    isOver = !page.querySelector("[data-follow]");
    renew(page);
    const place = document.querySelector("[data-speed]");
    if (place && speed > 0) place.textContent = `${Math.round(speed).toLocaleString("en")} steps/s`;
    /* All who look share a page for a second: it may be older than the state. */
    const shown = page.querySelector("[data-step]");
    if (state) known = { step: Number(shown?.dataset.step), seen: state.step, status: state.status, at: now };
    if (chart) await chart.draw();
    if (isOver && !chart) location.reload();
  } catch {
    /* The server is away: the next poll finds out. */
  }
  if (!isOver) wait();
}

function wait() {
  setTimeout(follow, POLL_MS);
}

if (view && "follow" in view.dataset) wait();

/* Forms */

for (const place of parts("[data-origin]")) place.textContent = location.origin;

const compare = document.querySelector("[data-compare]");
if (compare) {
  const chosen = () => parts("[data-id]:checked").map((box) => box.value);
  document.addEventListener("change", () => (compare.disabled = chosen().length < 2));
  compare.addEventListener("click", () => (location.href = `/compare?ids=${chosen().join(",")}`));
}

document.querySelector("[data-login]")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = event.target.elements.key.value;
  // In the header too: a proxy in front of several servers tells by it whose key this is.
  const headers = { "Content-Type": "application/json" };
  if (/^[\x21-\x7e]+$/.test(key)) headers["X-API-Key"] = key;
  const answer = await fetch("/login", { method: "POST", body: JSON.stringify({ key }), headers });
  if (answer.ok) return location.pathname === "/login" ? location.assign("/") : location.reload();
  const problem = event.target.querySelector("[data-problem]");
  problem.textContent = (await answer.json()).message;
  problem.hidden = false;
});

document.querySelector("[data-logout]")?.addEventListener("click", async () => {
  await fetch("/logout", { method: "POST", body: "{}", headers: { "Content-Type": "application/json" } });
  location.assign("/login");
});
