// Panels as cards: a tile, a chart or a table. Every text goes in by textContent: names are data, never markup.

import { Chart } from "./chart.js";
import { exactMoney, format, span } from "./format.js";

/** An element with a class and a text. */
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** An empty card of a panel, in its place on the board. */
export function card(panel, place) {
  const article = element("article", `panel ${panel.kind} w-${place.width}`);
  article.setAttribute("aria-labelledby", `panel-${panel.name}`);
  const head = element("div", "head");
  const title = element("h2", "", panel.title);
  title.id = `panel-${panel.name}`;
  const help = element("details", "help");
  const summary = element("summary", "", "?");
  summary.setAttribute("aria-label", `How to read ${panel.title}`);
  help.append(summary, element("p", "", panel.description));
  head.append(title, help);
  const body = element("div", "body");
  body.append(element("p", "muted", "Loading…"));
  article.append(head, body);
  return { panel, article, body, chart: null, hidden: new Set() };
}

/** Puts an answer into a card. */
export function show(item, answer, context) {
  item.chart?.destroy();
  item.chart = null;
  const rows = Object.values(answer.columns)[0]?.length ?? 0;
  if (item.panel.kind === "stat") stat(item, answer);
  else if (rows === 0) item.body.replaceChildren(element("p", "muted", nothing(item.panel)));
  else if (item.panel.kind === "timeseries") item.chart = new Chart(item.body, item.panel, answer, context.ranks, context.zoom, item.hidden);
  else table(item, answer);
  note(item, context.filters);
}

/** Says in the card that its answer did not come. */
export function fail(item, error) {
  item.chart?.destroy();
  item.chart = null;
  item.body.replaceChildren(element("p", "error", `No answer: ${error.message}`));
}

function nothing(panel) {
  if (panel.name === "incidents") return "No incidents in this range.";
  if (panel.name.startsWith("gpu")) return "No readings from self-hosted GPUs in this range.";
  return "Nothing in this range.";
}

function note(item, filters) {
  const ignored = Object.keys(filters).filter((name) => filters[name].length && !item.panel.filters.includes(name));
  item.article.querySelector(".ignored")?.remove();
  if (ignored.length) item.article.append(element("p", "muted ignored", `Not narrowed by ${ignored.join(", ")}: these numbers have none.`));
}

function stat(item, answer) {
  const { panel, body } = item;
  const value = answer.columns.value[0] ?? null;
  const level = reached(panel, value);
  const big = element("p", "value", format(value, panel.unit));
  body.replaceChildren(big);
  item.article.dataset.level = level;
  if (level) body.append(element("p", "level", level === "critical" ? "▲ needs attention" : "△ keep an eye on it"));
  if (panel.unit === "usd" && value !== null) body.append(element("p", "exact", `exactly ${exactMoney(value)}`));
  if (value === null) body.append(element("p", "muted", "nothing known in this range"));
  else if (panel.compared) body.append(change(answer.compared));
}

function reached(panel, value) {
  const passed = panel.thresholds.filter((threshold) => value !== null && Number(value) >= threshold.value);
  return passed.length ? passed.at(-1).level : "";
}

/** Whole hours of the range against as many before them. */
function change(compared) {
  const [value, before] = [compared?.value[0] ?? null, compared?.before[0] ?? null];
  if (value === null || before === null || Number(before) === 0) return element("p", "change", "too little known before to compare");
  const length = compared.hours === 24 ? "24 hours" : span(compared.hours * 3600);
  const percent = ((Number(value) - Number(before)) / Number(before)) * 100;
  const size = Math.abs(percent).toLocaleString("en-US", { maximumFractionDigits: Math.abs(percent) < 10 ? 1 : 0 });
  const word = size === "0" ? "unchanged" : `${percent > 0 ? "▲ up" : "▼ down"} ${size}\u202f%`;
  return element("p", "change", `${word} on the ${length} before`);
}

const NUMBERS = new Set(["usd", "ratio", "tokens", "count", "per_minute"]);

function table(item, answer) {
  const made = element("table", "rows");
  const head = made.createTHead().insertRow();
  for (const column of item.panel.columns) {
    const cell = element("th", NUMBERS.has(column.unit) ? "number" : "", column.title);
    cell.scope = "col";
    head.append(cell);
  }
  const body = made.createTBody();
  const rows = answer.columns[item.panel.columns[0].name].length;
  for (let row = 0; row < rows; row += 1) body.append(tableRow(item.panel, answer.columns, row));
  const scroll = element("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", item.panel.title);
  scroll.append(made);
  item.body.replaceChildren(scroll);
}

function tableRow(panel, columns, index) {
  const row = element("tr");
  for (const column of panel.columns) {
    const value = columns[column.name][index];
    const cell = element("td", NUMBERS.has(column.unit) ? "number" : column.unit);
    cell.dataset.label = column.title;
    if (column.unit === "state") cell.append(element("span", `badge ${value}`, value));
    else cell.append(element("span", "", format(value, column.unit)));
    if (column.unit === "usd" && value !== null) cell.title = exactMoney(value);
    row.append(cell);
  }
  return row;
}
