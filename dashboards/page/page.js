// The page: draws the board that the URL names, and redraws what changes.

import { card, element, fail, show } from "./panels.js";
import { DIMENSIONS, RANGES, fetchJson, read, write } from "./state.js";
import { moment, span } from "./format.js";

const REFRESH_MS = 60_000;
const NO_FILTERS = Object.fromEntries(DIMENSIONS.map((name) => [name, []]));
const at = (id) => document.getElementById(id);

let catalogue = null;
let cards = [];
let answers = new Map();
let pending = new AbortController();

/** New children, with the keyboard's focus where it was. */
function replace(container, children) {
  const focusable = () => [...container.querySelectorAll("button, summary, input")];
  const focused = focusable().indexOf(document.activeElement);
  container.replaceChildren(...children);
  if (focused >= 0) focusable()[focused]?.focus({ preventScroll: true });
}

function change(edit) {
  const state = read();
  edit(state);
  write(state);
  refresh();
}

function drawRanges(state) {
  const buttons = RANGES.map(([since, title]) => {
    const button = element("button", "", title);
    button.type = "button";
    button.setAttribute("aria-pressed", String(state.since === since && !state.until));
    button.addEventListener("click", () => change((next) => Object.assign(next, { since, until: "" })));
    return button;
  });
  replace(at("ranges"), [...buttons, customRange(state)]);
}

function customRange(state) {
  const isCustom = Boolean(state.until) || !RANGES.some(([since]) => since === state.since);
  const details = element("details", "choice");
  const summary = element("summary", isCustom ? "chosen" : "", isCustom ? "Custom range" : "Custom");
  const form = element("form", "sheet");
  const inputs = ["since", "until"].map((name) => {
    const label = element("label", "", name === "since" ? "From (UTC)" : "Until (UTC)");
    const input = element("input");
    Object.assign(input, { type: "datetime-local", name, required: name === "since", value: isCustom ? state[name].slice(0, 16) : "" });
    label.append(input);
    return label;
  });
  const apply = element("button", "primary", "Apply");
  form.append(...inputs, apply);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const utc = (text) => (text ? `${text}Z` : "");
    change((next) => Object.assign(next, { since: utc(given.get("since")), until: utc(given.get("until")) }));
  });
  details.append(summary, form);
  return details;
}

function drawFilters(state, values) {
  const open = at("filters").querySelector("details[open]")?.dataset.name;
  const made = DIMENSIONS.map((name) => filter(name, state.filters[name], values[name] ?? [], name === open));
  const clear = element("button", "", "Clear filters");
  clear.type = "button";
  clear.hidden = DIMENSIONS.every((name) => state.filters[name].length === 0);
  clear.addEventListener("click", () => change((next) => DIMENSIONS.forEach((name) => { next.filters[name] = []; })));
  replace(at("filters"), [...made, clear]);
}

function filter(name, chosen, values, isOpen) {
  const details = element("details", "choice");
  details.dataset.name = name;
  details.open = isOpen;
  const title = name[0].toUpperCase() + name.slice(1);
  const what = chosen.length === 0 ? "all" : chosen.length === 1 ? chosen[0] || "(none)" : `${chosen.length} of ${values.length}`;
  const summary = element("summary", chosen.length ? "chosen" : "", `${title}: ${what}`);
  const sheet = element("fieldset", "sheet");
  sheet.append(element("legend", "visually-hidden", title));
  const offered = [...new Set([...values, ...chosen])];
  if (offered.length === 0) sheet.append(element("p", "muted", "no values in this range"));
  for (const value of offered) sheet.append(option(name, value, chosen.includes(value)));
  details.append(summary, sheet);
  return details;
}

function option(name, value, isChosen) {
  const label = element("label", "option");
  const box = element("input");
  Object.assign(box, { type: "checkbox", checked: isChosen });
  box.addEventListener("change", () => change((next) => {
    next.filters[name] = next.filters[name].filter((each) => each !== value);
    if (box.checked) next.filters[name].push(value);
  }));
  label.append(box, element("span", "", value || "(none)"));
  return label;
}

function drawBoard(board) {
  at("title").textContent = board.title;
  document.title = `${board.title} · Pennytrace`;
  const several = catalogue.boards.length > 1;
  at("boards").replaceChildren(...(several ? catalogue.boards.map((each) => boardLink(each, board)) : []));
  cards.forEach((item) => item.chart?.destroy());
  cards = board.panels.map((place) => card(catalogue.panels[place.panel], place));
  at("panels").replaceChildren(...cards.map((item) => item.article));
}

function boardLink(board, current) {
  const button = element("button", "", board.title);
  button.type = "button";
  if (board === current) button.setAttribute("aria-current", "page");
  button.addEventListener("click", () => change((next) => { next.board = board.name; }));
  return button;
}

function describe(state, answer) {
  const range = `${moment(answer.since / 1000)} – ${moment(answer.until / 1000)} UTC`;
  const now = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  at("meta").textContent = `${range} · one point per ${span(answer.step_seconds).replace(/^1 /, "")} · read at ${now} · drag across a chart to zoom`;
}

function isEmpty() {
  const requests = answers.get("requests");
  return Boolean(requests) && requests.columns.value[0] === null;
}

async function load(item, state, values, signal) {
  try {
    const asked = fetchJson(`api/panels/${item.panel.name}`, state, signal);
    // The filters' values say which colour each series has; neither request waits for the other.
    const [answer, known] = await Promise.all([asked, values]);
    const context = contextOf(state, known);
    answers.set(item.panel.name, answer);
    show(item, answer, context);
    if (item.panel.name === "requests") at("empty").hidden = !isEmpty();
    if (item.panel.kind === "timeseries") describe(state, answer);
  } catch (error) {
    if (error.name !== "AbortError") fail(item, error);
  }
}

async function refresh() {
  pending.abort();
  pending = new AbortController();
  const { signal } = pending;
  const state = read();
  drawRanges(state);
  const board = catalogue.boards.find((each) => each.name === state.board) ?? catalogue.boards[0];
  if (at("panels").dataset.board !== board.name) drawBoard(board);
  at("panels").dataset.board = board.name;
  at("panels").setAttribute("aria-busy", "true");
  const values = fetchJson("api/filters", { ...state, filters: NO_FILTERS }, signal).then((body) => body.values, () => ({}));
  const loaded = cards.map((item) => load(item, state, values, signal));
  const known = await values;
  if (signal.aborted) return;
  drawFilters(state, known);
  await Promise.all(loaded);
  if (!signal.aborted) at("panels").setAttribute("aria-busy", "false");
}

function contextOf(state, values) {
  const ranks = new Map(["model", "service", "endpoint"].flatMap((name) => (values[name] ?? []).map((value, index) => [value, index])));
  ["fresh input", "cache read", "cache write", "output", "prompt cache", "response cache"].forEach((name, index) => ranks.set(name, index % 4));
  const iso = (seconds) => new Date(seconds * 1000).toISOString().replace(".000", "");
  const zoom = (since, until) => change((next) => Object.assign(next, { since: iso(since), until: iso(until) }));
  return { ranks, zoom, filters: state.filters };
}

function redrawCharts() {
  for (const item of cards) item.chart?.draw();
}

function closeSheets(event) {
  for (const details of document.querySelectorAll("details[open].choice, details[open].help")) {
    if (!details.contains(event.target)) details.open = false;
  }
}

async function start() {
  catalogue = await fetchJson("api/panels");
  await refresh();
  window.addEventListener("popstate", refresh);
  document.addEventListener("click", closeSheets);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeSheets({ target: null }); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCharts);
  const isBusy = () => document.hidden || read().until || document.querySelector("header details[open]");
  setInterval(() => { if (!isBusy()) refresh(); }, REFRESH_MS);
}

start().catch((error) => { at("meta").textContent = `The page could not start: ${error.message}`; });
