// Drawings in SVG: curves with the band of the sites, columns per round, the grid of who took part.
// Their height never changes while a run is live. The arrow keys move the read-out as the pointer does.

import { h } from "./dom.js";
import { state, changed } from "./model.js";
import { FALLING, METRICS, UNKNOWN, number, onAxis, seconds } from "./format.js";

const MANY = 8; // more sites than this are drawn as a band only: no palette tells them apart
const known = (value) => typeof value === "number" && Number.isFinite(value);
export const tone = (sites, id) => `s${sites.indexOf(id) % MANY}`;

export function niceTicks(low, high, wanted = 4) {
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let i = Math.floor(low / step + 1e-9); i <= Math.ceil(high / step - 1e-9); i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function roundTicks(first, last, room) {
  const wanted = Math.max(1, Math.floor(room / 44));
  const step = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10000, 20000].find((s) => (last - first) / s <= wanted) ?? 50000;
  const ticks = [first];
  for (let round = Math.ceil((first + 1) / step) * step; round <= last; round += step) if (round - first >= step * 0.7) ticks.push(round);
  return ticks;
}

/** What a pointer and the arrow keys do over a drawing with `rounds`. */
function reading(chart, rounds, locate) {
  const at = (round) => { state.hover = round === null ? null : { chart, round }; changed(); };
  const nearest = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const wanted = locate(event.clientX - box.left);
    at(rounds.reduce((best, round) => (Math.abs(round - wanted) < Math.abs(best - wanted) ? round : best), rounds[0]));
  };
  const key = (event) => {
    const now = rounds.indexOf(state.hover?.round ?? rounds.at(-1));
    const moves = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: rounds.length - 1 };
    if (event.key === "Escape") return at(null);
    if (!(event.key in moves)) return undefined;
    event.preventDefault();
    return at(rounds[Math.max(0, Math.min(rounds.length - 1, moves[event.key]))]);
  };
  if (!rounds.length) return {};
  return { tabindex: 0, onpointermove: nearest, onpointerdown: nearest, onpointerleave: () => at(null), onkeydown: key, onfocus: () => at(state.hover?.round ?? rounds.at(-1)), onblur: () => at(null) };
}

const measured = (chart) => ({ measure: (width) => { if (state.widths[chart] !== width) { state.widths[chart] = width; changed(); } } });

/** Keeps labels 13 pixels apart, as close to their places as they can be. */
function spread(labels, top, bottom) {
  labels.sort((a, b) => a.y - b.y);
  for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + 13);
  let limit = bottom;
  for (let i = labels.length - 1; i >= 0; i--, limit -= 13) labels[i].y = Math.max(top, Math.min(labels[i].y, limit));
  return labels;
}

const clip = (name, length) => (name.length > length ? `${name.slice(0, length - 1)}…` : name);

/** A metric over the rounds: the global line, the band of the sites, a line for each site. */
export function curves({ metric, analytics, sites, total }) {
  const chart = `curve-${metric}`;
  const width = state.widths[chart] ?? 380, height = 224;
  const few = sites.length <= MANY;
  const value = (row) => row[metric] ?? row.metrics?.[metric];
  const of = (row, id) => row.sites?.[id]?.[metric];
  const rows = analytics.rounds ?? [];
  const points = rows.filter((row) => known(value(row)));
  const title = h("figcaption", null, h("b", null, METRICS[metric] ?? metric), h("span", { class: "latest" }, points.length ? number(value(points.at(-1))) : UNKNOWN));
  const left = 44, right = 82, top = 10, bottom = height - 26;
  const shown = few ? points.flatMap((row) => sites.map((id) => of(row, id))) : [];
  const all = [...points.map(value), ...shown, ...points.flatMap((row) => [row.spread?.[metric]?.min, row.spread?.[metric]?.max])].filter(known);
  let ticks = all.length ? niceTicks(Math.min(...all), Math.max(...all)) : metric === "loss" ? [] : [0, 0.5, 1];
  if (["accuracy", "auc"].includes(metric) && ticks.at(-1) > 1) ticks = ticks.filter((tick) => tick <= 1);
  const marks = onAxis(ticks);
  const low = Math.min(ticks[0] ?? 0, ...all), high = Math.max(ticks.at(-1) ?? 1, ...all);
  const first = Math.min(1, ...points.map((row) => row.round)), last = Math.max(first + 1, total ?? 1, ...points.map((row) => row.round));
  const x = (round) => left + ((round - first) / (last - first)) * (width - left - right);
  const y = (v) => bottom - ((v - low) / (high - low || 1)) * (bottom - top);
  const line = (read) => {
    let path = "", pen = "M";
    for (const row of points) {
      const v = read(row);
      if (!known(v)) { pen = "M"; continue; }
      path += `${pen}${x(row.round).toFixed(1)} ${y(v).toFixed(1)}`;
      pen = "L";
    }
    return path;
  };
  const banded = points.filter((row) => known(row.spread?.[metric]?.min) && known(row.spread?.[metric]?.max));
  const band = banded.length > 1 ? `M${banded.map((row) => `${x(row.round).toFixed(1)} ${y(row.spread[metric].max).toFixed(1)}`).join("L")}L${banded.toReversed().map((row) => `${x(row.round).toFixed(1)} ${y(row.spread[metric].min).toFixed(1)}`).join("L")}Z` : "";
  const labels = [];
  const end = points.at(-1);
  if (end) {
    labels.push({ name: "all sites", y: y(value(end)) + 4, tone: "all" });
    if (few) for (const id of sites) {
      const latest = points.findLast((row) => known(of(row, id)));
      if (latest) labels.push({ name: id, y: y(of(latest, id)) + 4, tone: tone(sites, id) });
    }
  }
  const hovered = state.hover && points.find((row) => row.round === state.hover.round);
  const rounds = points.map((row) => row.round);
  const read = hovered ? [["all", "all sites", value(hovered)], ...(few ? sites.map((id) => [tone(sites, id), id, of(hovered, id)]) : [])].filter(([, , v], i) => !i || known(v)).sort((a, b) => b[2] - a[2]) : [];
  const says = end ? `${METRICS[metric] ?? metric} by round, ${points.length} rounds, from ${number(value(points[0]))} to ${number(value(end))}. ${FALLING.has(metric) ? "Lower" : "Higher"} is better.` : `${METRICS[metric] ?? metric}: ${UNKNOWN}`;
  return h("figure", { class: "chart", key: chart }, title,
    h("div", { class: "plot", ...measured(chart) },
      h("svg", { width: "100%", height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": says, ...reading(chart, rounds, (px) => first + ((px - left) / (width - left - right)) * (last - first)) },
        ticks.map((tick, i) => h("g", { key: `y${tick}` }, h("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }), h("text", { x: left - 7, y: y(tick) + 4, class: "end" }, marks[i]))),
        roundTicks(first, last, width - left - right).map((tick) => h("text", { key: `x${tick}`, x: x(tick), y: height - 9, class: "middle" }, tick)),
        h("line", { class: "axis", x1: left, x2: width - right, y1: bottom, y2: bottom }),
        h("text", { x: width - right + 14, y: height - 9 }, "round"),
        h("path", { class: "band", d: band }),
        few ? sites.map((id) => h("path", { key: id, class: `line site ${tone(sites, id)}`, d: line((row) => of(row, id)) })) : null,
        h("path", { key: "all", class: "line global", d: line(value) }),
        points.length === 1 ? [few ? sites.filter((id) => known(of(end, id))).map((id) => h("circle", { key: `p${id}`, class: `dot ${tone(sites, id)}`, cx: x(end.round), cy: y(of(end, id)), r: 3 })) : null, h("circle", { key: "p", class: "dot all", cx: x(end.round), cy: y(value(end)), r: 4 })] : null,
        spread(labels, top + 4, bottom + 2).map((label) => h("text", { key: `l${label.name}`, class: `label ${label.tone}`, x: width - right + 8, y: label.y }, h("title", null, label.name), clip(label.name, 11))),
        hovered ? h("g", { key: "guide" }, h("line", { class: "guide", x1: x(hovered.round), x2: x(hovered.round), y1: top, y2: bottom }), read.filter(([, , v]) => known(v)).map(([name, id, v]) => h("circle", { key: id, class: `dot ${name}`, cx: x(hovered.round), cy: y(v), r: name === "all" ? 4 : 3 }))) : null,
        end ? null : h("text", { class: "middle", x: left + (width - left - right) / 2, y: (top + bottom) / 2 }, UNKNOWN)),
      hovered && state.hover.chart === chart ? h("div", { class: "readout", style: place(x(hovered.round), width) }, h("b", null, `Round ${hovered.round}`), h("dl", null, read.map(([name, id, v]) => [h("dt", { class: name }, id), h("dd", null, number(v))]))) : null));
}

const place = (px, width) => (px < width / 2 ? { left: `${Math.round(px + 12)}px`, right: "auto" } : { left: "auto", right: `${Math.round(width - px + 12)}px` });

/** Columns per round: `parts` are [class, name, row => value], stacked. */
export function columns({ id, title, rows: all, parts, write, total }) {
  const rows = all.filter((row) => row.n_clients || row.duration_s); // round 0 is the model before training
  const chart = `columns-${id}`;
  const width = state.widths[chart] ?? 380, height = 130;
  const left = 52, right = 12, top = 8, bottom = height - 24;
  const sums = rows.map((row) => parts.reduce((sum, [, , read]) => sum + (read(row) ?? 0), 0));
  const highest = Math.max(0, ...sums);
  const ticks = highest ? niceTicks(0, highest, 3) : [];
  const high = ticks.at(-1) || 1;
  const first = Math.min(1, ...rows.map((row) => row.round)), last = Math.max(first, total ?? 1, ...rows.map((row) => row.round));
  const slot = (width - left - right) / (last - first + 1);
  const x = (round) => left + (round - first) * slot;
  const y = (v) => bottom - (v / high) * (bottom - top);
  const hovered = state.hover && rows.find((row) => row.round === state.hover.round);
  const latest = rows.at(-1);
  const tell = (row) => parts.map(([, name, read]) => `${name ? `${name} ` : ""}${write(read(row))}`).join(" · ");
  return h("figure", { class: "chart", key: chart },
    h("figcaption", null, h("b", null, title), h("span", { class: "latest" }, hovered || latest ? [`round ${(hovered ?? latest).round}: `, parts.map(([kind, name, read]) => h("span", { key: kind, class: "part" }, name ? h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }) : null, name ? `${name} ` : "", write(read(hovered ?? latest))))] : UNKNOWN)),
    h("div", { class: "plot", ...measured(chart) },
      h("svg", { width: "100%", height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. ${latest ? `Latest ${tell(latest)}` : UNKNOWN}`, ...reading(chart, rows.map((row) => row.round), (px) => first + (px - left) / slot - 0.5) },
        ticks.map((tick) => h("g", { key: `y${tick}` }, h("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }), h("text", { class: "end", x: left - 7, y: y(tick) + 4 }, tick === 0 ? "0" : write(tick)))),
        rows.map((row) => {
          let base = 0;
          return h("g", { key: row.round, class: hovered === row ? "column on" : "column" }, parts.map(([name, , read]) => {
            const v = read(row) ?? 0;
            base += v;
            return h("rect", { key: name, class: name, x: (x(row.round) + slot * 0.12).toFixed(2), y: y(base).toFixed(2), width: Math.max(0.7, slot * 0.76).toFixed(2), height: Math.max(0, y(0) - y(v)).toFixed(2) });
          }));
        }),
        h("line", { class: "axis", x1: left, x2: width - right, y1: bottom, y2: bottom }),
        roundTicks(first, last, width - left - right).map((tick) => h("text", { key: `x${tick}`, class: "middle", x: x(tick) + slot / 2, y: height - 8 }, tick)))));
}

const MARKS = { ok: "took part", failed: "failed", not: "not asked", late: "asked, no answer used" };

/** [place, words] of steps: the first step, and of rounds at equal distances the first of their steps, wherever there is room. */
export function stepLabels(steps, cell) {
  const first = steps.map((step, i) => known(step.round) && step.round !== steps[i - 1]?.round), rounds = first.filter(Boolean).length;
  const apart = 30 / (cell * steps.length / Math.max(1, rounds)); // in rounds
  const every = [1, 2, 4, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000].find((n) => n >= apart) ?? 10000;
  const found = steps.length ? [[0, known(steps[0].round) ? steps[0].round : "prepare"]] : [];
  steps.forEach((step, i) => { if (i && first[i] && (step.round % every === 0 || step.round === 1) && (i - found.at(-1)[0]) * cell >= (found.length > 1 ? 24 : 60)) found.push([i, step.round]); });
  return found;
}

/** One cell for each node and step; failures say why. */
export function participation({ steps, sites, total }) {
  const chart = "participation";
  const shown = steps.slice(-Math.max(40, Math.min(300, Math.floor(6000 / Math.max(1, sites.length))))); // cells to be drawn at each event
  const rounds = shown.map((step) => step.round).filter(known);
  const left = Math.min(120, 30 + 7 * Math.max(4, ...sites.map((id) => Math.min(13, id.length)))), row = 24, top = 20;
  const width = state.widths[chart] ?? 700;
  const future = Math.max(0, Math.min(60, (total ?? 0) - Math.max(0, ...rounds)));
  const cell = Math.max(7, Math.min(44, (width - left - 4) / Math.max(1, shown.length + future)));
  const height = top + sites.length * row + 4;
  const long = Math.max(width, left + cell * (shown.length + future) + 4);
  const what = (step, id) => (step.failures?.[id] !== undefined ? "failed" : step.participants?.[id] ? "ok" : (step.asked ?? []).includes(id) ? "late" : "not");
  const labels = stepLabels(shown, cell);
  const hovered = state.hover?.chart === chart ? state.hover : null;
  const say = hovered ? hovered.says : `${steps.length > shown.length ? `The last ${shown.length} of ${steps.length} steps. ` : ""}Point at a cell, or go through it with the arrow keys.`;
  const told = (step, id) => {
    const kind = what(step, id), left = kind === "not" && step.chosen?.left_out?.[id];
    const where = known(step.round) ? `round ${step.round}` : step.label || `step ${step.step}`;
    return `${id}, ${where}: ${MARKS[kind]}${left ? `: ${left}` : kind === "failed" ? `: ${step.failures[id]}` : kind === "ok" && known(step.participants[id].seconds) ? ` in ${seconds(step.participants[id].seconds)}` : ""}`;
  };
  const at = (column, line) => {
    const step = shown[Math.max(0, Math.min(shown.length - 1, column))], id = sites[Math.max(0, Math.min(sites.length - 1, line))];
    if (!step || !id) return;
    state.hover = { chart, round: step.round ?? null, column: shown.indexOf(step), line: sites.indexOf(id), says: told(step, id) };
    changed();
  };
  const point = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    at(Math.floor((event.clientX - box.left - left) / cell), Math.floor((event.clientY - box.top - top) / row));
  };
  const key = (event) => {
    const now = hovered ?? { column: shown.length, line: 0 };
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    at(now.column + moves[event.key][0], now.line + moves[event.key][1]);
  };
  return h("figure", { class: "chart wide", key: chart },
    h("figcaption", null, h("b", null, "Who took part"),
      h("span", { class: "legend" }, Object.entries(MARKS).filter(([kind]) => kind !== "late" || shown.some((s) => sites.some((id) => what(s, id) === "late"))).map(([kind, name]) => h("span", { key: kind }, h("svg", { width: 14, height: 14, "aria-hidden": "true" }, mark(kind, 1, 1, 12, 12)), name)))),
    h("div", { class: "plot scroll", ...measured(chart) },
      h("svg", { width: long, height, viewBox: `0 0 ${long} ${height}`, role: "img", "aria-label": `Who took part: ${sites.length} nodes, ${shown.length} steps`, tabindex: 0, onpointermove: point, onpointerdown: point, onpointerleave: () => { state.hover = null; changed(); }, onkeydown: key, onblur: () => { state.hover = null; changed(); } },
        labels.map(([i, words]) => h("text", { key: `t${i}`, class: i ? "middle" : "", x: left + cell * (i ? i + 0.5 : 0), y: 12 }, words)),
        sites.map((id, line) => h("g", { key: id },
          h("text", { class: "end ink", x: left - 10, y: top + row * line + 16 }, h("title", null, id), clip(id, 13)),
          shown.map((step, i) => h("g", { key: `${step.step} ${step.started}`, class: hovered && hovered.column === i && hovered.line === line ? "on" : "" }, mark(what(step, id), left + cell * i + 1, top + row * line + 3, cell - 2, row - 6))),
          Array.from({ length: future }, (_, i) => h("rect", { key: `f${i}`, class: "cell future", x: left + cell * (shown.length + i) + 1, y: top + row * line + 3, width: cell - 2, height: row - 6, rx: 2 }))))),
    ),
    h("p", { class: "says", "aria-live": "polite" }, say));
}

function mark(kind, x, y, width, height) {
  const cross = Math.min(width, height) * 0.26, cx = x + width / 2, cy = y + height / 2;
  if (kind === "not") return [h("rect", { key: "r", class: "cell not", x, y, width, height, rx: 2 }), h("circle", { key: "c", class: "pip", cx, cy, r: 1.2 })];
  if (kind === "ok") return h("rect", { key: "r", class: "cell ok", x, y, width, height, rx: 2 });
  return [h("rect", { key: "r", class: `cell ${kind}`, x, y, width, height, rx: 2 }), h("path", { key: "x", class: "cross", d: `M${cx - cross} ${cy - cross}l${2 * cross} ${2 * cross}m0 ${-2 * cross}l${-2 * cross} ${2 * cross}` })];
}

/** Bars of the mean over the rounds with a whisker of one standard deviation; a mark for the latest round. */
export function bars({ rows, limit, of = "over the rounds", spread = "standard deviation" }) {
  const shown = rows.slice(0, limit);
  const highest = Math.max(...shown.map((row) => Math.max(row.latest ?? 0, row.mean + (row.std ?? 0))), 1e-12);
  return h("ol", { class: "bars" }, shown.map((row) => h("li", { key: row.feature, title: `${row.feature}: mean ${of} ${number(row.mean)}, ${spread} ${number(row.std)}${row.latest === undefined ? "" : `, latest ${number(row.latest)}`}` },
    h("span", { class: "name" }, row.feature),
    h("svg", { width: "100%", height: 14, "aria-hidden": "true" },
      h("rect", { class: "track", x: 0, y: 2, width: "100%", height: 10, rx: 2 }),
      h("rect", { class: "fill", x: 0, y: 2, width: `${Math.max(0, 100 * row.mean / highest)}%`, height: 10, rx: 2 }),
      row.std ? h("line", { class: "whisker", x1: `${Math.max(0, 100 * (row.mean - row.std) / highest)}%`, x2: `${Math.min(100, 100 * (row.mean + row.std) / highest)}%`, y1: 7, y2: 7 }) : null,
      row.latest === undefined ? null : h("circle", { class: "latest-mark", cx: `${Math.max(0, 100 * (row.latest ?? 0) / highest)}%`, cy: 7, r: 3.2 })),
    h("span", { class: "value" }, number(row.mean)))));
}
