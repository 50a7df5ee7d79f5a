// Numbers as people read them. Money arrives as decimal text and is never rounded where "exact" is promised.

const whole = new Intl.NumberFormat("en-US");

/** Decimal text without the zeros that say nothing: "$226.0371383". */
export function exactMoney(text) {
  const [integer, fraction = ""] = text.split(".");
  const sign = integer.startsWith("-") ? "-" : "";
  const kept = fraction.replace(/0+$/, "").padEnd(2, "0");
  return `${sign}$${whole.format(BigInt(integer.replace("-", "")))}.${kept}`;
}

/** Dollars to the cent, or with three digits below ten cents. */
export function money(value) {
  const number = Number(value);
  if (number === 0) return "$0.00";
  const size = Math.abs(number);
  const digits = size >= 0.1 ? 2 : Math.min(12, 2 - Math.floor(Math.log10(size)));
  const text = size.toLocaleString("en-US", { minimumFractionDigits: digits >= 2 ? 2 : 0, maximumFractionDigits: digits });
  return `${number < 0 ? "-" : ""}$${text}`;
}

function compact(number) {
  if (Math.abs(number) < 10000) return number.toLocaleString("en-US", { maximumFractionDigits: number % 1 ? 2 : 0 });
  return number.toLocaleString("en-US", { notation: "compact", maximumSignificantDigits: 4 });
}

const minutes = (millis) => new Date(millis).toISOString().slice(0, 16).replace("T", " ");

const FORMATS = {
  usd: money,
  ratio: (value) => `${(Number(value) * 100).toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 })}\u202f%`,
  tokens: (value) => compact(Number(value)),
  count: (value) => whole.format(value),
  per_minute: (value) => `${compact(Number(value))}/min`,
  text: (value) => value || "–",
  state: (value) => value,
  time: minutes,
};

/** A value in its unit; unknown is a dash, never a zero. */
export function format(value, unit) {
  return value === null || value === undefined ? "–" : FORMATS[unit](value);
}

/** "Mar 2, 14:00": a moment in UTC for the axis and the legend. */
export function moment(seconds, withTime = true) {
  const options = { month: "short", day: "numeric", timeZone: "UTC" };
  if (withTime) Object.assign(options, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  return new Date(seconds * 1000).toLocaleString("en-US", options);
}

/** "6 hours", "1 day". */
export function span(seconds) {
  const [size, name] = seconds % 86400 === 0 ? [seconds / 86400, "day"] : [Math.round(seconds / 360) / 10, "hour"];
  return `${size} ${name}${size === 1 ? "" : "s"}`;
}
