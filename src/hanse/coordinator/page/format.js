// How numbers, times and hashes are written. What is not known is said, never shown as 0.

export const UNKNOWN = "not measured";

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** Metrics: 0.8532, 12.41, 1,204. */
export function number(value, unknown = UNKNOWN) {
  if (!known(value)) return unknown;
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return value.toLocaleString("en");
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  if (size < 1) return value.toFixed(size < 0.01 ? 4 : 3);
  if (size < 1000) return value.toLocaleString("en", { maximumSignificantDigits: 4 });
  return value.toLocaleString("en", { maximumFractionDigits: 0 });
}

/** Marks of an axis: all with the decimals that their step needs. */
export function onAxis(ticks) {
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 1;
  if (step < 1e-4 || Math.abs(ticks.at(-1)) >= 1e5) return ticks.map((tick) => (tick === 0 ? "0" : tick.toExponential(1)));
  let decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  if (Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals++;
  return ticks.map((tick) => tick.toFixed(decimals));
}

export function count(value, unknown = "unknown") {
  return known(value) ? value.toLocaleString("en") : unknown;
}

export function percent(value, unknown = UNKNOWN) {
  if (!known(value)) return unknown;
  return `${(100 * value).toFixed(Math.abs(value) < 0.1 && value !== 0 ? 1 : 0)} %`;
}

export function bytes(value, unknown = UNKNOWN) {
  if (!known(value)) return unknown;
  let size = value;
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (size < 1000) return `${unit === "B" ? size : size.toPrecision(3)} ${unit}`;
    size /= 1000;
  }
  return `${size.toPrecision(3)} TB`;
}

export function seconds(value, unknown = UNKNOWN) {
  if (!known(value)) return unknown;
  if (value < 0.0995) return `${(value * 1000).toPrecision(2)} ms`;
  if (value < 99.5) return `${value.toPrecision(value < 10 ? 2 : 3)} s`;
  const whole = Math.round(value);
  if (whole < 7200) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.round(whole / 86400)} days`;
}

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const clockTime = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export const parse = (time) => (time ? Date.parse(time) : NaN);
export const when = (time, unknown = "never") => (Number.isNaN(parse(time)) ? unknown : local.format(parse(time)));
export const clock = (time) => (Number.isNaN(parse(time)) ? "" : clockTime.format(parse(time)));
export const utc = (time) => (Number.isNaN(parse(time)) ? "" : `${new Date(parse(time)).toISOString().replace("T", " ").slice(0, 19)} UTC`);

/** "12 s ago", "in 6 days"; coarse, so that it changes seldom. */
export function ago(time, now = Date.now(), unknown = "never") {
  const moment = parse(time);
  if (Number.isNaN(moment)) return unknown;
  const difference = (now - moment) / 1000;
  if (Math.abs(difference) < 5) return difference < -2 ? "in a moment" : "just now";
  const size = Math.abs(difference);
  const [amount, unit] =
    size < 60 ? [5 * Math.floor(size / 5), "s"] : size < 3600 ? [Math.floor(size / 60), "min"]
      : size < 172800 ? [Math.floor(size / 3600), "h"] : [Math.floor(size / 86400), "days"];
  return difference < 0 ? `in ${amount} ${unit}` : `${amount} ${unit} ago`;
}

export const short = (hash) => (hash ? `${hash.slice(0, 12)}…` : "none");

export const STATES = {
  pending: "being prepared", awaiting_consent: "awaiting consent", running: "running", paused: "paused",
  stopping: "stopping", completed: "completed", rejected: "rejected", expired: "expired", cancelled: "cancelled",
  failed: "failed",
};
export const ROLES = { operator: "operator", data_owner: "data owner", data_scientist: "data scientist" };
export const role = (name) => ROLES[(name ?? "").replace(" ", "_")] ?? name ?? "";
export const METRICS = { loss: "Loss", accuracy: "Accuracy", auc: "AUC", c_index: "C-index", rmse: "RMSE", mae: "MAE", r2: "R²", d2: "D²" };
export const FALLING = new Set(["loss", "rmse", "mae"]);

const regions = new Intl.DisplayNames(["en"], { type: "region" });

/** A country as its node declares it: "Switzerland (CH)". What is no code of one stays as it is. */
export function place(code) {
  try {
    return `${regions.of(code)} (${code})`;
  } catch {
    return String(code);
  }
}
