// What waits for a data owner: the proposal, the code that will run, and a decision that repeats the hash.

import { h } from "./dom.js";
import * as api from "./api.js";
import { act, changed, edit, notify, readRun, readSessions, state, waiting } from "./model.js";
import { STATES, count, number, percent, place } from "./format.js";
import { command, copyable, empty, fact, hash, moment, section, since, tag, title } from "./parts.js";

export function consentsSection() {
  const open = waiting();
  return section("consents", "Waiting for your consent", open.length ? h("span", { class: "aside" }, `${open.length} proposal${open.length === 1 ? "" : "s"}`) : null,
    open.length ? open.map(([session, nodes]) => card(session, nodes)) : !state.read ? h("div", { class: "loading" }) : empty("Nothing waits for you.", h("p", null, (state.me.nodes ?? []).length ? "A proposal that asks one of your nodes appears here the moment it is made." : "No node is linked to your account yet; the operator can link one.")));
}

function card(session, nodes) {
  const detail = state.details.get(session.session_id);
  const config = session.config ?? {};
  const features = detail?.alignment?.features ?? [];
  const data = nodes.map((id) => detail?.datasets?.[id] && `${detail.datasets[id].name} at ${id}${declared(detail, id)}`).filter(Boolean);
  const others = (session.expected_clients ?? []).filter((id) => !nodes.includes(id)).map((id) => `${id}${declared(detail, id)}`);
  return h("article", { class: "card consent", key: session.session_id },
    h("header", null, h("h3", null, h("a", { href: `#/runs/${encodeURIComponent(session.session_id)}` }, title(session))), tag("awaiting_consent", `asks ${nodes.join(", ")}`)),
    session.study ? h("p", { class: "soft" }, "Of the study ", h("b", null, session.study)) : null,
    h("p", { class: "purpose" }, session.purpose || config.purpose || h("span", { class: "soft" }, "No purpose was given. You may ask for one before you decide.")),
    h("dl", { class: "facts" },
      fact("Proposed by", session.proposer), session.learns === false
        ? fact("Asks for", config.federated_strategy, ", of which no model comes")
        : [fact("Model", config.model_name), fact("Predicts", config.target_column, " (", config.task_type, ")"), fact("Rounds", number(session.num_rounds ?? config.num_rounds))],
      fact("Your data", data.join(", ") || "not yet known"),
      session.learns === false ? null : fact("Privacy", session.privacy || "no noise is added; sums are exact"),
      fact("Features", features.length ? `${features.length} (${config.feature_strategy})` : config.feature_strategy ?? "unknown"),
      fact("Also asked", others.join(", ") || "nobody"),
      fact("Decide before", moment(session.expires_at), " (", since(session.expires_at), ")")),
    features.length ? h("details", null, h("summary", null, `The ${features.length} features`), h("p", { class: "chips" }, features.map((name) => h("span", { class: "chip", key: name }, name)))) : null,
    changes(detail, nodes),
    h("h4", null, "The code that will run at the node, and the settings"),
    codeView(detail),
    h("div", { class: "hashline" }, h("span", null, "SHA-256"), hash(session.code_hash), copyable(session.code_hash, "copy hash")),
    checked(detail),
    nodes.map((node) => decision(session, node, nodes.length > 1)));
}

/** What is asked that the last run of the same person, which the node agreed to, did not ask. */
function changes(detail, nodes) {
  if (!detail) return null;
  return nodes.map((node) => {
    const told = detail.changes?.[node];
    if (!told) return h("p", { class: "soft", key: node }, `Nothing of ${detail.proposer} on these data was agreed to for ${node} before.`);
    const run = h("a", { href: `#/runs/${encodeURIComponent(told.since)}` }, h("code", null, told.since));
    if (!told.lines.length) return h("p", { class: "good", key: node }, "✓ The same as ", run, `, which was agreed to for ${node}.`);
    return h("details", { class: "changes", open: told.lines.length <= 12, key: node }, h("summary", null, `${count(told.lines.length)} ${told.lines.length === 1 ? "change" : "changes"} since the last that was agreed to for ${node}`), h("p", { class: "soft" }, "compared with ", run), h("ul", null, told.lines.map((line, at) => h("li", { key: at }, line))));
  });
}

/** What a node said that it has and where it is; its rows are what it may count for: " in CH (at most 304 rows, 25% of all)". */
export function declared(detail, id) {
  const where = detail?.datasets?.[id]?.country ? ` in ${place(detail.datasets[id].country)}` : "";
  const rows = Object.fromEntries(Object.entries(detail?.datasets ?? {}).map(([node, one]) => [node, one?.most_rows]));
  if (typeof rows[id] !== "number") return where;
  const all = Object.values(rows).reduce((sum, n) => sum + (typeof n === "number" ? n : 0), 0);
  return `${where} (at most ${count(rows[id])} rows${all ? `, ${percent(rows[id] / all)} of all` : ""})`;
}

export function codeView(detail) {
  if (!detail) return h("pre", { class: "code" }, "reading…");
  const text = detail.code_preview ?? "";
  return h("div", null, h("pre", { class: "code", tabindex: 0, "aria-label": "Code preview" }, text), h("p", { class: "soft under" }, `${count(text.split("\n").length)} lines`, copyable(text, "copy code")));
}

export function checked(detail) {
  if (!detail || detail.fits === null || detail.fits === undefined) return detail ? h("p", { class: "soft" }, "The node computes this hash itself before it runs anything; this browser could not (it may over HTTPS).") : null;
  if (!detail.fits) return h("p", { class: "warning bad", role: "alert" }, "The hash does NOT fit the bundle that the coordinator shows. Do not accept; tell the operator.");
  return h("p", { class: "good" }, "✓ Your browser computed this hash from the bundle itself", contains(detail) ? ", and the code above is the bundle's." : ".");
}

function contains(detail) {
  try {
    return Object.values(JSON.parse(detail.bundle).code).every((source) => detail.code_preview.includes(source));
  } catch {
    return false;
  }
}

function decision(session, node, several) {
  const name = `decide ${session.session_id} ${node}`;
  const open = state.form[name];
  const mode = state.nodes.find((one) => one.id === node)?.consent_mode;
  if (mode === "node") {
    return h("div", { class: "decide", key: name }, h("p", null, h("b", null, node), " takes decisions only where it stands. Its owner runs there, and compares the hash:"), command(`hanse node approve ${session.session_id}`), command(`hanse node reject ${session.session_id}`));
  }
  const start = (what) => () => edit(name, { what, busy: false });
  if (!open) {
    return h("div", { class: "decide buttons", key: name }, several ? h("b", { class: "for" }, node) : null, h("button", { type: "button", class: "main", onclick: start("accept"), disabled: detailMissing(session) }, "Accept…"), h("button", { type: "button", onclick: start("reject") }, "Reject…"));
  }
  const submit = async (event) => {
    event.preventDefault();
    const reason = new FormData(event.currentTarget).get("reason")?.trim() ?? "";
    edit(name, { ...open, busy: true });
    const done = await act(() => api.post(api.path("/api/training/sessions/{id}/consent", { id: session.session_id }), { client_id: node, decision: open.what, code_hash: session.code_hash, ...(reason ? { reason } : {}) }));
    edit(name, done ? null : { ...open, busy: false });
    if (done) notify(open.what === "accept" ? `${node} takes part. The run is ${STATES[done.state] ?? done.state}.` : `${node} does not take part.`);
    readSessions();
    if (state.run) { state.run.stale = true; readRun(); }
    changed();
  };
  const accept = open.what === "accept";
  return h("form", { key: name, class: `decide confirm ${open.what}`, onsubmit: submit, onkeydown: (event) => { if (event.key === "Escape") edit(name, null); } },
    h("p", null, accept ? h("span", null, "You let ", h("b", null, node), " run exactly what has this hash, and nothing else:") : h("span", null, "You refuse for ", h("b", null, node), ". One rejection ends the proposal with this hash:")),
    hash(session.code_hash),
    h("label", null, accept ? "A note for the record (optional)" : "Reason, which the data scientist sees", h("textarea", { name: "reason", rows: 2, maxlength: 1000, required: !accept, created: (field) => setTimeout(() => field.focus(), 0) })),
    h("div", { class: "buttons" }, h("button", { class: accept ? "main" : "danger", disabled: open.busy }, open.busy ? "sending…" : accept ? "Yes, accept this hash" : "Yes, reject"), h("button", { type: "button", onclick: () => edit(name, null) }, "Back")));
}

const detailMissing = (session) => { const detail = state.details.get(session.session_id); return !detail || detail.fits === false; };
