// One run, live: curves, who took part, failures, features, contributions, events.

import { h } from "./dom.js";
import * as api from "./api.js";
import { ENDED, act, edit, is, mine, readDetail, readRun, readSessions, state, undecided } from "./model.js";
import { bars, columns, curves, participation, tone } from "./charts.js";
import { fitted } from "./coefficients.js";
import { checked, codeView, declared } from "./consents.js";
import { METRICS, UNKNOWN, bytes, clock, count, number, percent, seconds, utc } from "./format.js";
import { measured } from "./measured.js";
import { given } from "./statistics.js";
import { command, copyable, empty, fact, hash, moment, progress, section, since, stateTag, tag, title } from "./parts.js";

export function runView() {
  const run = state.run;
  if (run.missing) return empty("This run is not to be seen.", h("p", null, run.missing), h("a", { class: "button", href: "#/" }, "All runs"));
  const session = run.session, analytics = run.analytics ?? { rounds: [] };
  if (!session) return h("div", { class: "run" }, h("h1", null, "…"), h("div", { class: "loading" }));
  const sites = [...new Set([...(session.expected_clients ?? []), ...run.steps.flatMap((step) => step.asked ?? [])])].sort();
  const total = session.num_rounds ?? session.config?.num_rounds;
  const learns = session.learns !== false, over = ENDED.has(session.state), begun = run.steps.length > 0 || ["running", "paused", "stopping"].includes(session.state);
  return h("article", { class: "run", key: run.id },
    h("header", { class: "head" }, h("div", null, h("p", { class: "crumb" }, h("a", { href: "#/" }, "Runs"), " / ", h("code", null, session.session_id)), h("h1", null, title(session), " ", stateTag(session.state)), session.purpose ? h("p", { class: "purpose" }, session.purpose) : null, session.nearness ? h("p", { class: "soft" }, "Model: ", session.nearness) : null, session.study ? h("p", { class: "soft" }, "Of the study ", h("b", null, session.study)) : null), actions(session)),
    session.reason && session.reason !== session.purpose && (ENDED.has(session.state) ? session.state !== "completed" : session.state === "paused") ? h("p", { class: `warning ${session.state === "failed" ? "bad" : ""}` }, session.reason) : null,
    session.state === "awaiting_consent" ? consents(session) : null,
    session.learns === false ? given(run) : null,
    learns ? figures(session, analytics, run) : null,
    warned(run.steps),
    learns ? fitted(run) : null,
    learns && begun && (!over || session.state === "completed" || metricsOf(session, analytics).length) ? section("curves", "Learning", convergence(analytics.convergence, session), over && !metricsOf(session, analytics).length
      ? h("p", { class: "soft" }, session.config?.test_fraction === 0 ? "Nothing was measured: no rows were held out (test_fraction is 0)." : "Nothing was measured.")
      : h("div", { class: "charts" }, metricsOf(session, analytics).map((metric) => curves({ metric, analytics, sites, total })))) : null,
    learns && begun ? section("nodes-in", "Participation", null, participation({ steps: run.steps, sites, total: over ? 0 : total }),
      over && !analytics.rounds.length ? null : h("div", { class: "charts two" },
        columns({ id: "seconds", title: "Seconds per round", rows: analytics.rounds, total, write: (v) => seconds(v), parts: [["time", "", (row) => row.duration_s]] }),
        columns({ id: "bytes", title: "Bytes per round", rows: analytics.rounds, total, write: (v) => bytes(v), parts: [["down", "to nodes", (row) => row.bytes_down], ["up", "from nodes", (row) => row.bytes_up]] }))) : null,
    !learns || !begun || (over && !analytics.rounds.length) ? null : h("div", { class: (analytics.feature_importance ?? []).length ? "pair uneven" : "stacked" }, contributions(analytics, sites), h("div", null, importance(analytics), added(analytics.shap ?? []))),
    learns ? measured(analytics.measured) : null,
    begun ? section("failures", "Failures", null, failures(run.steps), leftOut(run.steps)) : null,
    gathered(run.steps),
    learns && begun ? numbers(analytics, session) : null,
    about(session),
    log(run));
}

const BEFORE = ["loss", "accuracy", "auc"]; // until something was measured, or the run has ended without
const FIRST = ["loss", "accuracy", "auc", "rmse", "r2"]; // of what was, in this order

function metricsOf(session, analytics) {
  const found = new Set(analytics.rounds.flatMap((row) => [...Object.entries(row.metrics ?? {}).filter(([, value]) => typeof value === "number").map(([name]) => name), ...Object.keys(row.spread ?? {})]));
  const measured = [...FIRST.filter((name) => found.has(name)), ...[...found].filter((name) => METRICS[name] && !FIRST.includes(name))];
  return measured.length > 1 ? measured.slice(0, 3) : ENDED.has(session.state) ? [] : BEFORE;
}

// ---- what one may do

function actions(session) {
  const id = session.session_id;
  const buttons = [];
  const call = (name, template, done) => async () => {
    edit("confirm", null);
    await act(() => api.post(api.path(template, { id })), done);
    state.run && (state.run.stale = true);
    readRun();
    readSessions();
  };
  if (ENDED.has(session.state) && session.started_at) buttons.push(h("button", { key: "evidence", type: "button", title: "One signed file: hanse audit verify checks it without this coordinator", onclick: () => act(() => api.save(api.path("/api/runs/{id}/evidence", { id }), `${id}.evidence.zip`)) }, "Download evidence"));
  if (mine(session)) {
    if (session.state === "awaiting_consent") buttons.push(h("button", { key: "execute", type: "button", class: "main", disabled: undecided(session).length > 0, title: undecided(session).length ? "Not everybody has agreed yet" : null, onclick: call("execute", "/api/training/sessions/{id}/execute", "The run starts.") }, "Start"));
    if (session.state === "running") buttons.push(h("button", { key: "pause", type: "button", onclick: call("pause", "/api/training/sessions/{id}/pause", "It pauses before the next step.") }, "Pause"));
    if (session.state === "paused" || session.state === "failed") buttons.push(h("button", { key: "resume", type: "button", class: "main", title: session.state === "failed" ? "Its owners are asked again, then it goes on from its last state" : null, onclick: call("resume", "/api/training/sessions/{id}/resume", session.state === "failed" ? "Its owners are asked again; then it goes on." : "The run goes on.") }, "Resume"));
    if (session.result) buttons.push(h("button", { key: "model", type: "button", class: session.state === "completed" ? "main" : "", onclick: () => act(() => api.save(api.path("/api/runs/{id}/model", { id }), `${id}.safetensors`)) }, `Download ${session.learns === false ? "result" : "model"} (${bytes(session.result.bytes, "size unknown")})`));
    if (!ENDED.has(session.state)) {
      buttons.push(state.form.confirm === id
        ? h("span", { key: "sure", class: "sure" }, "End this run for good? ", h("button", { type: "button", class: "danger", onclick: call("cancel", "/api/training/sessions/{id}/cancel", "Cancelled.") }, "Yes, cancel it"), h("button", { type: "button", onclick: () => edit("confirm", null) }, "No"))
        : h("button", { key: "cancel", type: "button", onclick: () => edit("confirm", id) }, "Cancel…"));
    }
  }
  return h("div", { class: "actions buttons" }, buttons);
}

function consents(session) {
  const left = new Set(session.remaining ?? []);
  const given = session.consents ?? {};
  return section("given", "Consent", h("span", { class: "aside" }, left.size ? `${left.size} of ${session.expected_clients.length} to decide, before `  : "all have agreed", left.size ? moment(session.expires_at) : null),
    h("ul", { class: "given" }, session.expected_clients.map((id) => {
      const one = given[id];
      const node = state.nodes.find((n) => n.id === id);
      return h("li", { key: id }, h("b", null, id), one && !left.has(id) ? tag(one.decision === "reject" ? "rejected" : "completed", one.decision === "reject" ? "rejected" : "accepted") : tag("awaiting_consent", "not yet decided"),
        h("span", { class: "soft" }, one ? h("span", null, one.actor ? `${one.actor}, ` : "", since(one.time), one.via === "node" ? ", at the node" : "", one.reason ? `: ${one.reason}` : "") : node?.consent_mode === "node" ? h("span", null, "its owner runs ", h("code", null, `hanse node approve ${session.session_id}`)) : state.me?.nodes?.includes(id) ? h("a", { href: "#/" }, "decide now") : "its owner decides here or at the node"));
    })));
}

// ---- the figures at the top: always the same tiles, so that nothing moves

function figures(session, analytics, run) {
  const own = session.result?.metrics?.evaluated_round; // a run may end with an earlier model
  const measured = (metric) => analytics.rounds.filter((row) => typeof (row[metric] ?? row.metrics?.[metric]) === "number");
  const latest = (metric) => measured(metric).find((row) => row.round === own) ?? measured(metric).at(-1);
  const tile = (name, value, note = "") => h("div", { class: "tile", key: name }, h("span", { class: "name" }, name), h("span", { class: value === UNKNOWN ? "value none" : "value" }, value), h("span", { class: "soft" }, note || " "));
  const times = analytics.rounds.filter((row) => row.n_clients).map((row) => row.duration_s).filter((v) => typeof v === "number").sort((a, b) => a - b);
  const traffic = run.steps.length ? run.steps.reduce((sum, step) => sum + (step.bytes_down ?? 0) + (step.bytes_up ?? 0), 0) : NaN;
  const basis = (row) => (row?.measured_on ? `on ${row.measured_on.answered} of ${row.measured_on.of} sites; ` : "");
  const spread = (metric) => { const row = latest(metric), s = row?.spread?.[metric]; return basis(row) + (s ? `sites ${number(s.min)} to ${number(s.max)}` : ""); };
  const failed = run.steps.reduce((sum, step) => sum + Object.keys(step.failures ?? {}).length, 0);
  return h("div", { class: "tiles" },
    h("div", { class: "tile wide", key: "progress" }, h("span", { class: "name" }, "Progress"), progress({ ...session, current_round: analytics.current_round ?? session.current_round }), h("span", { class: "soft" }, session.ended_at ? h("span", null, "ended ", moment(session.ended_at)) : session.started_at ? h("span", null, "started ", since(session.started_at)) : "not started")),
    metricsOf(session, analytics).map((metric) => { const row = latest(metric); return tile(METRICS[metric], row ? number(row[metric] ?? row.metrics?.[metric]) : UNKNOWN, spread(metric)); }),
    tile("Median round", times.length ? seconds(times[Math.floor(times.length / 2)]) : UNKNOWN, failed ? `${failed} failed answer${failed === 1 ? "" : "s"}` : ""),
    tile("Traffic", bytes(traffic), "both directions"));
}

const STATUS = {
  converged: ["completed", "converged", "the loss is at its best and no longer changes"],
  improving: ["running", "improving", "the loss still falls"],
  plateaued: ["paused", "plateaued", "the loss is flat, but not at its best"],
  oscillating: ["paused", "oscillating", "the loss goes up and down; a smaller learning rate may help"],
  past_best: ["paused", "past its best", "the loss rises again; the model of an earlier round was better"],
  diverging: ["failed", "diverging", "the loss is above that of the start; a smaller learning rate may help"],
  insufficient_data: ["offline", "too early to say", "more rounds are needed to judge"],
};

function convergence(told, session) {
  if (session.state === "completed" && (session.reason ?? "").startsWith("converged")) // an exact fit knows it; its losses need not fall on held-out rows
    return h("span", { class: "aside convergence" }, tag("completed", "converged"), h("span", { class: "soft" }, session.reason));
  const [kind, name, means] = STATUS[told?.status] ?? STATUS.insufficient_data;
  return h("span", { class: "aside convergence" }, tag(kind, name), h("span", { class: "soft" }, means, typeof told?.delta === "number" ? `; ${percent(told.delta)} in ${told.window} rounds` : ""));
}

/** How contributions came together, as the records of the steps say. */
function gathered(steps) {
  const ended = steps.filter((step) => step.status === "ok"), hidden = ended.map((step) => step.gathered ?? {}).filter((told) => told.by);
  if (!ended.length) return null;
  const of = hidden.map((told) => told.of), least = Math.min(...of), most = Math.max(...of);
  const unchecked = [...new Set(hidden.flatMap((told) => told.unchecked ?? []))], off = Math.max(0, ...hidden.map((told) => told.error ?? 0));
  return section("gathered", "How contributions came together", null, h("p", { class: "soft" }, hidden.length
    ? `${hidden[0].by} sums of ${least === most ? least : `${least} to ${most}`} sites, which nobody saw in parts, in ${hidden.length} of ${ended.length} steps; unchecked of single sites: ${unchecked.join(", ")}${off ? `; each off by at most ${off.toExponential(0)}` : ""}. What was agreed on in words was told as it is.`
    : "plainly: the coordinator saw what each site contributed."));
}

/** What the steps found odd about the sites or about the fit, each once. */
function warned(steps) {
  const said = [...new Set(steps.flatMap((step) => step.metrics?.warnings ?? []))];
  return said.length ? section("warned", "To be looked at", null, said.map((text) => h("p", { class: "warning", key: text }, text))) : null;
}

function failures(steps) {
  const rows = steps.flatMap((step) => Object.entries(step.failures ?? {}).map(([id, reason]) => ({ step, id, reason }))).reverse();
  const lost = steps.filter((step) => step.status === "failed").length;
  if (!rows.length && !lost) return h("p", { class: "soft" }, steps.length ? "No failures." : "Nobody has been asked yet.");
  return h("div", { class: "failures" }, h("p", { class: "soft" }, `${rows.length} failed answer${rows.length === 1 ? "" : "s"}${lost ? `, ${lost} failed step${lost === 1 ? "" : "s"} that had to be tried again` : ""}`),
    h("ul", null, rows.slice(0, 30).map(({ step, id, reason }) => h("li", { key: `${step.step} ${step.started} ${id}` }, h("b", null, id), h("span", { class: "soft" }, typeof step.round === "number" ? `round ${step.round}` : step.label), h("span", null, reason)))),
    rows.length > 30 ? h("p", { class: "soft" }, `and ${rows.length - 30} earlier ones`) : null);
}

/** Who was not sent a step by a policy, and why: once for each reason, with the steps that it holds for. */
function leftOut(steps) {
  const found = new Map();
  for (const step of steps) for (const [id, reason] of Object.entries(step.chosen?.left_out ?? {})) {
    const key = `${id} ${reason}`;
    found.set(key, { id, reason, count: (found.get(key)?.count ?? 0) + 1, last: step });
  }
  if (!found.size) return null;
  const rows = [...found.values()].reverse();
  return h("div", { class: "failures left-out" }, h("p", { class: "soft" }, "Left out by policies:"),
    h("ul", null, rows.slice(0, 30).map(({ id, reason, count, last }) => h("li", { key: `${id} ${reason}` }, h("b", null, id), h("span", { class: "soft" }, `${count} step${count === 1 ? "" : "s"}, last ${typeof last.round === "number" ? `round ${last.round}` : last.label}`), h("span", null, reason)))));
}

function importance(analytics) {
  const rows = [...(analytics.feature_importance ?? [])].sort((a, b) => a.rank - b.rank);
  const all = state.form.features;
  return section("importance", "Features that matter", rows.length && typeof analytics.rank_stability === "number" ? h("span", { class: "aside soft", title: "Mean Spearman correlation of the ranks of successive rounds" }, `mean over the rounds, ± deviation, ● latest; rank stability ${number(analytics.rank_stability)}`) : null,
    rows.length ? bars({ rows, limit: all ? rows.length : 12 }) : h("p", { class: "soft" }, analytics.rounds.length ? "This model has no feature importance." : UNKNOWN),
    rows.length > 12 ? h("button", { type: "button", class: "quiet", onclick: () => edit("features", !all) }, all ? "show the first 12" : `show all ${rows.length}`) : null);
}

function added(rows) {
  const outputs = [...new Set(rows.map((row) => row.output))], one = outputs.length === 1;
  const shown = rows.map((row) => ({ feature: one ? row.feature : `${row.feature}, ${row.output}`, mean: row.mean_abs, std: row.error }));
  return rows.length ? section("shap", "What features add to predictions", h("span", { class: "aside soft" }, `mean |SHAP|${one && outputs[0] !== undefined ? ` of ${outputs[0]}` : ""} over rows of all sites, ± standard error`),
    bars({ rows: shown, limit: 12, of: "|SHAP|", spread: "standard error" })) : null;
}

function contributions(analytics, sites) {
  const rows = Object.entries(analytics.client_performance ?? {}).sort(([a], [b]) => a.localeCompare(b));
  return section("contribution", "Contribution of each site", null, rows.length ? h("div", { class: "scroll" }, h("table", null,
    h("thead", null, h("tr", null, ["Site", "Share", "Samples", "Rounds", "Failures", "Time in all", "Loss fell by"].map((name, i) => h("th", { key: name, scope: "col", class: i > 1 ? "number" : "" }, name)))),
    h("tbody", null, rows.map(([id, one]) => h("tr", { key: id },
      h("th", { scope: "row" }, h("span", { class: `key ${tone(sites, id)}`, "aria-hidden": "true" }), id),
      h("td", { class: "share" }, h("progress", { max: 1, value: one.share ?? 0, "aria-label": `share of ${id}` }), " ", percent(one.share)),
      h("td", { class: "number" }, number(one.samples)), h("td", { class: "number" }, count(one.rounds)), h("td", { class: one.failures ? "number bad" : "number" }, count(one.failures)),
      h("td", { class: "number" }, seconds(one.seconds)), h("td", { class: "number" }, typeof one.loss_improvement === "number" ? number(one.loss_improvement) : UNKNOWN)))))) : h("p", { class: "soft" }, UNKNOWN));
}

function numbers(analytics, session) {
  const metrics = metricsOf(session, analytics);
  const cell = (value) => h("td", { class: "number" }, value);
  return h("details", { class: "section fold", key: "numbers", ontoggle: (event) => edit("table", event.currentTarget.open) }, h("summary", null, h("h2", null, "All rounds as a table")), !state.form.table ? null : h("div", { class: "scroll" }, h("table", null,
    h("thead", null, h("tr", null, ["Round", ...metrics.map((m) => METRICS[m]), "Nodes", "Failures", "Seconds", "To nodes", "From nodes"].map((name) => h("th", { key: name, scope: "col", class: "number" }, name)))),
    h("tbody", null, analytics.rounds.toReversed().map((row) => h("tr", { key: row.round }, h("th", { scope: "row", class: "number" }, row.round), metrics.map((m) => cell(number(row[m] ?? row.metrics?.[m], "–"))), cell(row.n_clients ? count(row.n_clients) : "–"), cell(Object.entries(row.failures ?? {}).map(([id, why]) => `${id}: ${why}`).join("; ") || "–"), cell(row.n_clients ? seconds(row.duration_s, "–") : "–"), cell(row.n_clients ? bytes(row.bytes_down, "–") : "–"), cell(row.n_clients ? bytes(row.bytes_up, "–") : "–")))))));
}

function about(session) {
  const shown = state.form.code;
  const alignment = session.alignment ?? {};
  const config = Object.entries(session.config ?? {}).filter(([name, value]) => !["plan", "purpose", "name"].includes(name) && value !== null && !(Array.isArray(value) && !value.length) && !(typeof value === "object" && !Array.isArray(value) && !Object.keys(value).length));
  return h("details", { class: "section fold", key: "about", ontoggle: (event) => { edit("code", event.currentTarget.open); if (event.currentTarget.open && !state.details.has(session.session_id)) act(() => readDetail(session.session_id)); } }, h("summary", null, h("h2", null, "What was proposed")),
    h("dl", { class: "facts" }, session.privacy ? fact("Privacy", session.privacy) : null, fact("Proposed by", session.proposer), fact("Proposed", moment(session.created_at)), fact("Started", moment(session.started_at, "not yet")), fact("Ended", moment(session.ended_at, "not yet")), fact("Features", alignment.features ? `${alignment.features.length}: ${alignment.features.join(", ")}` : "unknown"), Object.entries(session.datasets ?? {}).map(([id, data]) => fact(`Data at ${id}`, data.name, " ", h("code", null, (data.version ?? "").slice(0, 12)), declared(session, id))), session.result ? fact("Model", `version ${session.result.version}, `, h("code", null, session.result.sha256)) : null),
    (alignment.warnings ?? []).map((text) => h("p", { class: "warning", key: text }, text)),
    h("h3", { class: "minor" }, "Settings"), h("dl", { class: "facts settings" }, config.map(([name, value]) => [h("dt", { key: `t${name}` }, h("code", null, name)), h("dd", { key: name }, typeof value === "object" ? JSON.stringify(value) : String(value))])),
    h("div", { class: "hashline" }, h("span", null, "SHA-256"), hash(session.code_hash), copyable(session.code_hash, "copy hash")),
    shown ? codeView(session) : null, shown ? checked(state.details.get(session.session_id)) : null);
}

// ---- events in words

const SAYS = {
  "run.created": () => "was proposed", "run.state": (d) => `became ${(d.to ?? "").replace("_", " ")}${d.reason ? `: ${d.reason}` : ""}`,
  consent: (d, e) => `${e.node ?? ""} decided: ${d.decision}${d.via === "node" ? " (at the node)" : ""}${d.reason ? `: ${d.reason}` : ""}`,
  "proposal.sent": (_, e) => `the proposal reached ${e.node ?? "a node"}`, "run.waiting": (d) => `waits for nodes: ${(d.online ?? []).length} of ${d.needed ?? "?"} online`,
  "proposal.refused": (d, e) => `${e.node ?? "a node"} did not take the proposal: ${d.reason ?? ""}`, "task.refused": (d, e) => `${e.node ?? "a node"} did not answer: ${d.reason ?? ""}`,
  "consent.refused": (d, e) => `${e.node ?? "a node"} decided in vain: ${d.reason ?? ""}`, "consent.withdrawn": (d, e) => `${e.node ?? "a node"} took its approval back${d.reason ? `: ${d.reason}` : ""}`,
  "run.done": (d) => `has done its last step${d.reason ? `: ${d.reason}` : ""}`, model: (d) => `model${d.version === undefined ? "" : ` version ${d.version}`} stored`,
  "node.refused": (d, e) => `${e.node ?? "someone"} was refused: ${d.what ?? ""} ${typeof d.detail === "string" ? d.detail : ""}`,
  "account.refused": (d) => `someone was refused: ${Object.entries(d).map(([k, v]) => `${k} ${typeof v === "string" ? v : JSON.stringify(v)}`).join(", ") || "wrong token"}`,
  "network.unavailable": (d) => `traffic is not preferred: ${d.reason ?? "no network controller"}`, "network.available": () => "traffic is preferred again",
  "node.online": (_, e) => `${e.node} came on line`, "node.offline": (_, e) => `${e.node} went off line`, "node.enrolled": (_, e) => `${e.node} joined`, "node.described": (_, e) => `${e.node} described its data`, "node.revoked": (_, e) => `${e.node} was revoked`,
};

export function sentence(event) {
  const detail = event.detail ?? {};
  return SAYS[event.kind]?.(detail, event) ?? [event.kind, event.node, Object.keys(detail).length ? JSON.stringify(detail).slice(0, 200) : ""].filter(Boolean).join(" ");
}

export const eventRow = (event) => h("li", { key: event.id }, h("time", { datetime: event.time, title: utc(event.time) }, clock(event.time)), h("span", null, sentence(event)), event.actor ? h("span", { class: "soft" }, event.actor) : null);

function log(run) {
  const events = [...(run.events ?? [])].reverse();
  return section("events", "Events", null, events.length ? h("ol", { class: "events" }, events.map(eventRow)) : h("p", { class: "soft" }, "None yet."), is("operator", "data_scientist") && run.session?.state === "completed" && run.session.learns !== false ? h("div", null, h("p", { class: "soft" }, "From Python:"), command(`hanse.connect("${location.origin}").run("${run.id}").wait().model()`)) : null);
}
