// Statistics: a question to all sites, and what they gave: rows per column, tables, pictures.

import { h } from "./dom.js";
import * as api from "./api.js";
import { act, changed, edit, is, readSessions, state } from "./model.js";
import { onAxis, number } from "./format.js";
import { niceTicks, tone } from "./charts.js";
import { empty, section } from "./parts.js";

const UNITS = 86400000; // milliseconds of a day: dates are days since 1970-01-01
const list = (text) => text.split(",").map((one) => one.trim()).filter(Boolean);
const known = (value) => typeof value === "number" && Number.isFinite(value);
const onScale = (value, dates) => (dates ? new Date(Math.round(value) * UNITS).toISOString().slice(0, 10) : number(value));

// ---- asking

export function statisticsView() {
  if (!is("data_scientist", "operator")) return empty("Only data scientists ask for statistics.");
  if (!state.form.statistics) { if (!state.form.reading) read(); return h("div", { class: "loading" }); }
  if (!state.form.statistics.length) return empty("The coordinator did not say which statistics there are.", h("button", { type: "button", onclick: () => edit("statistics", null) }, "Try again"));
  const all = state.form.statistics, name = state.form.statistic;
  const chosen = all.find((one) => one.name === name) ?? all.find((one) => one.basic) ?? all[0];
  return h("form", { class: "propose", key: "statistics", onsubmit: submit, novalidate: true },
    h("h1", null, "Ask for statistics"),
    h("p", { class: "lead" }, "Over all sites together, as of one table; what stands for too few rows is kept back. Owners who allow statistics answer at once, the others are asked."),
    h("div", { class: "fields narrow" },
      field("statistic", "Statistic", h("select", { id: "s-statistic", name: "statistic", onchange: (event) => edit("statistic", event.currentTarget.value) }, all.map((one) => h("option", { key: one.name, value: one.name, selected: one === chosen }, `${one.name.replaceAll("_", " ")}: ${one.doc}`))), ""),
      chosen.roles.length ? chosen.roles.map((role) => field(`role.${role}`, role, h("input", { id: `s-role.${role}`, name: `role.${role}`, type: "text", list: "s-columns", autocomplete: "off", required: true }), "a column"))
        : field("columns", "Columns", h("input", { id: "s-columns-of", name: "columns", type: "text", list: "s-columns", autocomplete: "off", placeholder: "age, weight" }), `names with commas between; it takes ${chosen.kinds.join(", ")} columns`),
      Object.entries(chosen.arguments).map(([argument, help]) => field(`argument.${argument}`, argument.replaceAll("_", " "), h("input", { id: `s-argument.${argument}`, name: `argument.${argument}`, type: "text", autocomplete: "off", placeholder: JSON.stringify(chosen.asked[argument] ?? null) === "null" ? "" : String(chosen.asked[argument]) }), help)),
      chosen.arguments.group ? null : field("by", "By", h("input", { id: "s-by", name: "by", type: "text", list: "s-columns", autocomplete: "off", placeholder: "nothing" }), "one or two columns whose labels make the groups"),
      field("gathering", "Small cells", h("select", { id: "s-gathering", name: "gathering", created: (choice) => { choice.value = totals() ? "total" : "plain"; } }, h("option", { value: "plain" }, "each site keeps its own back"), h("option", { value: "total" }, "those of the total are kept back, in secure sums")), "the second where all owners have set statistics_minimum to total; exact then wherever all sites together have rows enough"),
      field("tags", "Data with these tags", h("input", { id: "s-tags", name: "tags", type: "text", autocomplete: "off", placeholder: "all datasets" }), ""),
      field("purpose", "Purpose", h("input", { id: "s-purpose", name: "purpose", type: "text", autocomplete: "off", placeholder: "for owners who are asked" }), "")),
    h("datalist", { id: "s-columns" }, (state.form.analysis?.union?.features ?? []).map((one) => h("option", { key: one, value: one }))),
    state.form.unasked ? h("div", { class: "warning bad", role: "alert" }, h("p", null, state.form.unasked)) : null,
    h("div", { class: "buttons" }, h("button", { class: "main", disabled: Boolean(state.form.asking) }, state.form.asking ? "asking…" : "Ask")));
}

const field = (name, label, control, help) => h("div", { key: name, class: "field" }, h("label", { for: control.props?.id ?? `s-${name}` }, label), control, h("p", { class: "help" }, help));

/** Whether the last question that was answered was of the total: owners with that minimum answer no other. */
function totals() {
  const last = state.sessions.find((one) => one.state === "completed" && ["statistics", "statistics_on_total"].includes(one.config?.federated_strategy));
  return last?.config.federated_strategy === "statistics_on_total";
}

async function read() {
  state.form.reading = true; // what is drawn meanwhile has no statistics yet
  const found = await act(() => api.get("/api/statistics"));
  const columns = await api.get(api.path("/api/training/analyze", {}, { include: "features" })).catch(() => null);
  Object.assign(state.form, { statistics: found?.statistics ?? [], reading: false, analysis: state.form.analysis ?? columns });
  changed();
}

/** A number, a list of them, a text; as the command line reads it. */
function value(text) {
  if (text.includes(",")) return list(text).map(value);
  try { return JSON.parse(text); } catch { return text; }
}

/** The settings of a question whose minimum holds on the total: a sum of all sites that have such data. */
async function onTotal(tags) {
  const clients = (await api.get(api.path("/api/training/analyze", {}, { tags: tags.join(",") }))).clients, of = clients.length;
  return { expected_client_ids: clients, federated_strategy: "statistics_on_total", gathering: "secure", secure_threshold: Math.max(2, of), min_fit_nodes: of, min_completed: of, max_failed_rounds: 2 };
}

async function submit(event) {
  event.preventDefault();
  const form = new FormData(event.currentTarget);
  const text = (name) => String(form.get(name) ?? "").trim();
  const chosen = state.form.statistics.find((one) => one.name === text("statistic"));
  const columns = chosen.roles.length ? chosen.roles.map((role) => text(`role.${role}`)) : list(text("columns"));
  if (!columns.length || columns.some((one) => !one)) return edit("unasked", chosen.roles.length ? `Name a column for ${chosen.roles.join(" and ")}.` : "Name at least one column.");
  const given = Object.fromEntries(Object.keys(chosen.arguments).filter((one) => text(`argument.${one}`)).map((one) => [one, value(text(`argument.${one}`))]));
  const options = Object.keys(given).length ? given : chosen.asked;
  const by = chosen.arguments.group ? [] : list(text("by"));
  const together = chosen.columns !== 1;
  const items = together ? [[chosen.name, columns, options, by]] : columns.map((one) => [chosen.name, [one], options, by]);
  const touched = [...new Set([...columns, ...by, ...(typeof given.group === "string" ? [given.group] : [])])];
  const tags = list(text("tags"));
  edit("asking", true);
  try {
    const gathered = text("gathering") === "total" ? await onTotal(tags) : { federated_strategy: "statistics", max_failed_rounds: 0 };
    const session = await api.post("/api/training/start", {
      ...gathered, model_options: { items }, target_column: "", sample_id_column: null, num_rounds: 1,
      features: touched, tags, purpose: text("purpose"), name: `statistics: ${chosen.name} of ${columns.join(", ")}`.slice(0, 200),
    });
    Object.assign(state.form, { unasked: null, asking: false });
    readSessions();
    location.hash = `#/runs/${encodeURIComponent(session.session_id)}`;
  } catch (error) {
    Object.assign(state.form, { asking: false, unasked: error instanceof api.Refused ? [error.message, ...error.details.map((one) => `${one.field}: ${one.message}`)].join(" ") : "The coordinator did not answer." });
  }
  return changed();
}

// ---- what they gave

/** The part of a run's page that shows its statistics; they are read once, when there are any. */
export function given(run) {
  if (run.session.state !== "completed") return null;
  if (!is("data_scientist", "operator")) return h("p", { class: "soft" }, "What the sites said together is for the data scientist who asked, and for operators.");
  if (!run.statistics) {
    run.statistics = { loading: true };
    api.get(api.path("/api/runs/{id}/statistics", { id: run.id })).then((found) => { run.statistics = found; changed(); }, (error) => { run.statistics = { problem: error instanceof api.Refused ? error.message : "The coordinator did not answer." }; changed(); });
  }
  const found = run.statistics;
  if (found.loading) return h("div", { class: "loading" });
  if (found.problem) return h("p", { class: "warning" }, found.problem);
  const drawn = found.pictures.map((one) => one.title); // of groups in one picture there is a table each
  return section("statistics", "What the sites say together", h("span", { class: "aside" }, found.nodes.join(", "), "; ", found.minimum),
    found.rows.length ? table(found.rows) : null,
    found.pictures.length ? h("div", { class: "charts pictures" }, found.pictures.map(picture)) : null,
    found.tables.map((one) => h("details", { key: one.title, class: "fold told", open: !drawn.some((title) => one.title === title || one.title.startsWith(`${title}: `)) }, h("summary", null, h("b", null, one.title)), table(one.rows))),
    found.notes.map((note) => h("p", { key: note, class: "warning" }, note)));
}

/** A number that may not be that of all rows: with between which it lies, and in its title whose rows it lacks. */
function unsure({ value, least, most, of_told, rows, text }) {
  if (of_told !== undefined) return h("span", { class: "unsure", title: text }, `${number(of_told)}${known(rows) ? ` of ${rows} rows` : " of some rows"}`);
  const ends = known(least) && known(most) ? ` (${number(least)} to ${number(most)})` : "";
  return h("span", { class: "unsure", title: text }, `≈${typeof value === "number" ? number(value) : value}${ends}`);
}

const rough = (cell) => cell !== null && typeof cell === "object";
const written = (cell) => (rough(cell) ? unsure(cell) : typeof cell === "number" ? number(cell) : cell ?? "–");

function table(rows) {
  const heads = [...new Set(rows.flatMap(Object.keys))];
  const numeric = (head) => rows.every((row) => row[head] === null || row[head] === undefined || typeof row[head] === "number" || rough(row[head]));
  return h("div", { class: "scroll" }, h("table", null,
    h("thead", null, h("tr", null, heads.map((head) => h("th", { key: head, scope: "col", class: numeric(head) ? "number" : null }, head)))),
    h("tbody", null, rows.slice(0, 500).map((row, i) => h("tr", { key: i }, heads.map((head) => h("td", { key: head, class: numeric(head) ? "number" : null }, written(row[head]))))))));
}

function picture(one) {
  const draw = { bars, bins, stepcurves: steps }[one.kind];
  return h("figure", { class: "chart", key: one.title }, h("figcaption", null, h("b", null, one.title), h("span", { class: "soft" }, one.caption)), draw ? draw(one) : null);
}

function bars({ values }) {
  const shown = Object.entries(values).sort((a, b) => b[1] - a[1]).slice(0, 20), most = Math.max(1e-12, ...shown.map(([, v]) => v));
  return h("ol", { class: "bars" }, shown.map(([name, v]) => h("li", { key: name }, h("span", { class: "name" }, name),
    h("svg", { width: "100%", height: 14, "aria-hidden": "true" }, h("rect", { class: "track", x: 0, y: 2, width: "100%", height: 10, rx: 2 }), h("rect", { class: "fill", x: 0, y: 2, width: `${(100 * v) / most}%`, height: 10, rx: 2 })),
    h("span", { class: "value" }, number(v)))));
}

const WIDTH = 420, HEIGHT = 190, LEFT = 44, RIGHT = 14, TOP = 10, BOTTOM = 164;

const frame = (says, ...body) => h("svg", { width: "100%", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": says }, ...body);

function bins({ edges, counts, unsure, dates, caption }) {
  const most = Math.max(1, ...counts.filter(known)), low = edges[0], span = edges.at(-1) - low || 1;
  const x = (v) => LEFT + ((v - low) / span) * (WIDTH - LEFT - RIGHT), y = (v) => BOTTOM - (v / most) * (BOTTOM - TOP);
  const ticks = niceTicks(0, most, 3).filter((tick) => tick <= most), marks = onAxis(ticks);
  return frame(caption,
    ticks.map((tick, i) => h("g", { key: tick }, h("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }), h("text", { class: "end", x: LEFT - 7, y: y(tick) + 4 }, marks[i]))),
    counts.map((count, i) => h("rect", { key: i, class: !known(count) ? "bin kept" : unsure?.[i] ? "bin unsure" : "bin", x: x(edges[i]), y: y(count ?? most), width: Math.max(0.6, x(edges[i + 1]) - x(edges[i]) - 1), height: Math.max(0, BOTTOM - y(count ?? most)) }, h("title", null, `${onScale(edges[i], dates)} to ${onScale(edges[i + 1], dates)}: ${known(count) ? number(count) : "kept back"}${unsure?.[i] && known(count) ? " or more" : ""}`))),
    h("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: BOTTOM, y2: BOTTOM }),
    [0, 0.5, 1].map((share) => h("text", { key: share, class: share === 0 ? "" : share === 1 ? "end" : "middle", x: LEFT + share * (WIDTH - LEFT - RIGHT), y: HEIGHT - 8 }, onScale(low + share * span, dates))));
}

function steps({ curves, start, dates, caption }) {
  const names = Object.keys(curves), end = Math.max(1e-12, ...names.map((name) => curves[name].at.at(-1) ?? 0));
  const x = (v) => LEFT + (v / end) * (WIDTH - LEFT - RIGHT), y = (v) => BOTTOM - v * (BOTTOM - TOP);
  const both = ({ low, high }) => low.map((one, i) => known(one) && known(high[i]));
  const pieces = (at, values) => { // a step curve; where a value is not known, it ends
    const found = [];
    let now = [[0, start]];
    at.forEach((time, i) => {
      if (now.length) now.push([time, now.at(-1)[1]]);
      if (known(values[i])) now.push([time, values[i]]);
      else if (now.length) { found.push(now); now = []; }
    });
    return (now.length ? [...found, now] : found).map((piece) => piece.map(([time, share]) => `${x(time).toFixed(1)} ${y(share).toFixed(1)}`));
  };
  const around = (curve) => {
    const sure = both(curve), side = (values) => pieces(curve.at, values.map((one, i) => (sure[i] ? one : null)));
    const lows = side(curve.low);
    return side(curve.high).map((high, i) => `M${high.join("L")}L${lows[i].reverse().join("L")}Z`).join("");
  };
  return [frame(caption,
    [0, 0.5, 1].map((tick) => h("g", { key: tick }, h("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }), h("text", { class: "end", x: LEFT - 7, y: y(tick) + 4 }, tick))),
    names.map((name) => curves[name].low?.length ? h("path", { key: `b${name}`, class: `band ${tone(names, name)}`, d: around(curves[name]) }) : null),
    names.map((name) => h("path", { key: name, class: `line ${tone(names, name)}`, d: pieces(curves[name].at, curves[name].values).map((piece) => `M${piece.join("L")}`).join("") }, h("title", null, name))),
    h("text", { x: LEFT, y: HEIGHT - 8 }, "0"), h("text", { class: "end", x: WIDTH - RIGHT, y: HEIGHT - 8 }, onScale(end, dates))),
  names.length > 1 ? h("p", { class: "legend" }, names.map((name) => h("span", { key: name }, h("span", { class: `key ${tone(names, name)}`, "aria-hidden": "true" }), name))) : null];
}
