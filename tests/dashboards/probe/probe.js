// Drives the page's own modules as a reader and the minute's refresh do, and writes down what they show.

import { card, show } from "/static/panels.js";
import { moment } from "/static/format.js";

const ANSWER = {
  since: 0, until: 7200000, step_seconds: 3600,
  columns: {
    time: [0, 0, 0, 3600000, 3600000, 3600000],
    series: ["chat", "partly", "unpriced", "chat", "partly", "unpriced"],
    value: [2, 1, 0, 3, null, null],
  },
};
const CONTEXT = { ranks: new Map(), zoom: () => {}, filters: {} };
const PANELS = [["share", "ratio", false], ["rate", "per_minute", false], ["dollars", "usd", true]];

const say = (text) => document.body.append(text, document.createElement("br"));

function probe([name, unit, stacked]) {
  const item = card({ name, unit, stacked, title: name, description: "", kind: "timeseries", filters: [] }, { width: 12 });
  document.body.append(item.article);
  show(item, ANSWER, CONTEXT);
  const titles = [...item.body.querySelectorAll("thead th")].map((cell) => cell.textContent);
  const last = [...item.body.querySelectorAll("tbody tr")].map((row) => row.lastChild.textContent);
  item.body.querySelector("button.series").click();
  show(item, ANSWER, CONTEXT);
  const pressed = item.body.querySelector("button.series").getAttribute("aria-pressed");
  say(`${name} legend: ${titles.join(" ")}`);
  say(`${name} last column: ${last.join(" ")}`);
  say(`${name} after a refresh: shown ${item.chart.lines[0].shown}, pressed ${pressed}`);
}

say(`midnight is ${moment(0)}`);
PANELS.forEach(probe);
