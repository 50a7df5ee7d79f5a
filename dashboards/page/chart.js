// Time series: a uPlot canvas and, under it, a table that is legend, switch and values at once.

import { format, moment } from "./format.js";

const COLOURS = 8;
const LEFT_OUT = "(other)";
const sync = "board";

/** Long rows (time, series, value) as aligned arrays on the full grid of steps: gaps are null, and `partial` says that a value
 *  is unknown. */
export function pivot(answer) {
  const { time, series, value } = answer.columns;
  const step = answer.step_seconds;
  const first = Math.floor(answer.since / 1000 / step) * step;
  const count = Math.max(1, Math.ceil((answer.until / 1000 - first) / step));
  const times = Array.from({ length: count }, (_, index) => first + index * step);
  const lines = new Map();
  const partial = new Set(series.filter((_, row) => value[row] === null));
  for (let row = 0; row < time.length; row += 1) {
    const index = Math.round((time[row] / 1000 - first) / step);
    if (index < 0 || index >= count) continue;
    if (!lines.has(series[row])) lines.set(series[row], new Array(count).fill(null));
    lines.get(series[row])[index] = value[row] === null ? null : Number(value[row]);
  }
  return { times, lines: [...lines].map(([name, values]) => ({ name, values, partial: partial.has(name) })) };
}

const known = (values) => values.filter((value) => value !== null);
const sum = (values) => known(values).reduce((total, value) => total + value, 0);
const mean = (values) => (known(values).length ? sum(values) / known(values).length : null);

/** Heading of the legend's last column, "" for none: a mean of ratios or of rates per request would weigh no
 *  hour right. */
function summaryTitle(panel) {
  if (panel.stacked) return "Total";
  return panel.unit === "per_minute" ? "Mean" : "";
}

/** A line's total or mean; where a value is unknown, a total is at least what is known. */
function summary(panel, line) {
  if (!panel.stacked) return format(mean(line.values), panel.unit);
  const total = sum(line.values);
  if (!line.partial) return format(total, panel.unit);
  return total ? `≥\u202f${format(total, panel.unit)}` : format(null, panel.unit);
}

/** Each series keeps its colour from chart to chart: its rank among the filter's values, else a free one. */
function colourise(lines, ranks) {
  const taken = new Set();
  for (const line of lines) {
    if (line.name === LEFT_OUT) { line.colour = 0; continue; }
    let colour = ranks.has(line.name) ? ranks.get(line.name) % COLOURS : 0;
    for (let tries = 0; taken.has(colour) && tries < COLOURS; tries += 1) colour = (colour + 1) % COLOURS;
    taken.add(colour);
    line.colour = colour + 1;
  }
}

function stack(lines) {
  const totals = [];
  return lines.map((line) => line.values.map((value, index) => {
    if (!line.shown) return null;
    totals[index] = (totals[index] || 0) + (value || 0);
    return totals[index];
  }));
}

/** A chart with its legend inside `body`; onZoom(since, until) is called with seconds. `hidden` is the set of
 *  names that the reader hid: it outlives the chart, which every answer makes anew. */
export class Chart {
  constructor(body, panel, answer, ranks, onZoom, hidden) {
    Object.assign(this, { body, panel, answer, onZoom, hidden });
    const { times, lines } = pivot(answer);
    this.times = times;
    lines.sort((a, b) => (a.name === LEFT_OUT) - (b.name === LEFT_OUT) || sum(b.values) - sum(a.values));
    colourise(lines, ranks);
    this.lines = lines.map((line) => ({ ...line, shown: !hidden.has(line.name) }));
    this.canvas = document.createElement("div");
    this.canvas.className = "canvas";
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${panel.title}: ${lines.length} series, values in the table that follows`);
    body.replaceChildren(this.canvas, this.legend());
    this.draw();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.canvas);
  }

  destroy() {
    this.observer.disconnect();
    this.plot?.destroy();
  }

  resize() {
    const width = this.canvas.clientWidth;
    if (width && width !== this.plot.width) this.plot.setSize({ width, height: this.plot.height });
  }

  colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  draw() {
    this.plot?.destroy();
    const shown = this.panel.stacked ? stack(this.lines) : this.lines.map((line) => (line.shown ? line.values : line.values.map(() => null)));
    // The first line has to lie on top, so that the areas below it stay visible.
    const order = this.lines.map((_, index) => index);
    if (this.panel.stacked) order.reverse();
    const series = order.map((index) => this.seriesOptions(this.lines[index]));
    const data = [this.times, ...order.map((index) => shown[index])];
    this.plot = new uPlot(this.options(series), data, this.canvas);
  }

  seriesOptions(line) {
    const colour = this.colour(`--series-${line.colour}`);
    const alone = known(line.values).length < 40;
    return {
      label: line.name, show: line.shown, stroke: colour, width: this.panel.stacked ? 1 : 2,
      fill: this.panel.stacked ? colour : undefined, points: { show: !this.panel.stacked && alone, size: 5, fill: colour },
      paths: this.panel.stacked ? uPlot.paths.stepped({ align: 1 }) : undefined,
    };
  }

  options(series) {
    const axis = { stroke: this.colour("--muted"), grid: { stroke: this.colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const day = this.times.at(-1) - this.times[0] > 2 * 86400;
    const upper = this.panel.unit === "ratio" ? 1 : 0;
    return {
      width: this.canvas.clientWidth || 400, height: 230, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
      legend: { show: false }, cursor: { sync: { key: sync, setSeries: false }, y: false, drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: true }, y: { range: (_, low, high) => [Math.min(0, low || 0), Math.max(high || 0, upper) * (upper ? 1 : 1.08) || 1] } },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((tick) => moment(tick, !day || tick % 86400 !== 0).replace(/^.*, (?=\d\d:)/, "")), space: 70, size: 28 },
        { ...axis, values: (_, ticks) => ticks.map((tick) => format(tick, this.panel.unit).replace(/\.0(?=\u202f%)/, "")), size: 62 },
      ],
      series: [{}, ...series],
      hooks: { setCursor: [() => this.point()], setSelect: [(plot) => this.zoom(plot)] },
    };
  }

  legend() {
    const table = document.createElement("table");
    table.className = "legend";
    const total = summaryTitle(this.panel);
    const head = table.createTHead().insertRow();
    for (const title of ["Series", "Last", ...(total ? [total] : [])]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = title;
      head.append(cell);
    }
    this.at = head.cells[1];
    const body = table.createTBody();
    for (const line of this.lines) body.append(this.legendRow(line));
    return table;
  }

  legendRow(line) {
    const row = document.createElement("tr");
    const heading = document.createElement("th");
    heading.scope = "row";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "series";
    button.setAttribute("aria-pressed", String(line.shown));
    button.title = `Show or hide ${line.name}`;
    const swatch = document.createElement("i");
    swatch.className = `swatch c${line.colour}`;
    const name = document.createElement("span");
    name.textContent = line.name;
    button.append(swatch, name);
    button.addEventListener("click", () => {
      line.shown = !line.shown;
      if (line.shown) this.hidden.delete(line.name);
      else this.hidden.add(line.name);
      button.setAttribute("aria-pressed", String(line.shown));
      this.draw();
    });
    heading.append(button);
    line.cell = document.createElement("td");
    row.append(heading, line.cell);
    if (summaryTitle(this.panel)) row.insertCell().textContent = summary(this.panel, line);
    this.show(line, null);
    return row;
  }

  show(line, index) {
    const value = index === null ? known(line.values).at(-1) ?? null : line.values[index];
    line.cell.textContent = format(value, this.panel.unit);
  }

  point() {
    const index = this.plot?.cursor.idx ?? null;
    this.at.textContent = index === null ? "Last" : moment(this.times[index]);
    for (const line of this.lines) this.show(line, index);
  }

  zoom(plot) {
    // A drag is mirrored to the other charts; only the one under the pointer speaks.
    if (plot.select.width < 8 || !plot.over.matches(":hover")) return;
    const since = plot.posToVal(plot.select.left, "x");
    const until = plot.posToVal(plot.select.left + plot.select.width, "x");
    this.onZoom(Math.floor(since / 3600) * 3600, Math.ceil(until / 3600) * 3600);
  }
}
