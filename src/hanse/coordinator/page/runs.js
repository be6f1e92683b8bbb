// The list of runs.

import { h } from "./dom.js";
import { ENDED, edit, is, state, undecided } from "./model.js";
import { empty, progress, section, since, stateTag, title } from "./parts.js";
import { METRICS, number, seconds } from "./format.js";

const ORDER = ["running", "stopping", "paused", "awaiting_consent", "pending"];

export function runsSection() {
  const wanted = state.form.runs ?? "all";
  const shown = state.sessions.filter((one) => wanted === "all" || (wanted === "open" ? !ENDED.has(one.state) : one.state === wanted));
  shown.sort((a, b) => place(a) - place(b)); // stable: newest first within a state
  const extra = state.sessions.length ? h("label", { class: "aside" }, "show ", h("select", { onchange: (event) => edit("runs", event.currentTarget.value) },
    [["all", "all"], ["open", "not ended"], ["completed", "completed"], ["failed", "failed"], ["rejected", "rejected"]].map(([value, name]) => h("option", { key: value, value, selected: value === wanted }, name)))) : null;
  return section("runs", "Runs", extra, shown.length ? h("ul", { class: "runs" }, shown.map(row)) : !state.read ? h("div", { class: "loading" }) : state.sessions.length ? empty("No run is in this state.") : none(),
    state.total > state.sessions.length ? h("p", { class: "soft" }, `The newest ${state.sessions.length} of ${state.total} runs; the command line shows all: hanse run list`) : null);
}

const place = (session) => (ORDER.includes(session.state) ? ORDER.indexOf(session.state) : ORDER.length);

function none() {
  if (is("data_scientist", "operator")) return empty("Nothing has been trained yet.", h("p", null, "Propose the first run: choose data by tag, a model, and say what it is for."), h("a", { class: "button main", href: "#/propose" }, "Propose a run"));
  return empty("No run has asked your nodes yet.", h("p", null, "When a data scientist proposes one, it appears here and waits for your consent."));
}

function row(session) {
  const metrics = session.result?.metrics ?? {};
  const left = undecided(session);
  const [name, value] = ["auc", "accuracy", "c_index", "r2", "d2", "loss"].map((one) => [one, metrics[one]]).find(([, one]) => typeof one === "number") ?? [];
  return h("li", { key: session.session_id, class: session.state },
    h("a", { href: `#/runs/${encodeURIComponent(session.session_id)}`, class: "row" },
      h("span", { class: "what" }, h("b", null, title(session)), h("span", { class: "soft" }, `${session.learns === false ? session.config?.federated_strategy ?? "" : session.config?.model_name ?? ""} · ${nodes(session.expected_clients ?? [])} · by ${session.proposer}`)),
      stateTag(session.state),
      session.state === "awaiting_consent" ? h("span", { class: "soft grow" }, left.length ? `waits for ${left.join(", ")}` : "all agreed; to be started") : progress(session),
      h("span", { class: "figure" }, name ? `${name === "accuracy" || name === "loss" ? name : METRICS[name]} ${number(value)}` : ""),
      h("span", { class: "soft time" }, session.ended_at ? took(session) : since(session.started_at ?? session.created_at))));
}

const nodes = (ids) => (ids.length === 1 ? "1 node" : `${ids.length} nodes`);

function took(session) {
  const began = Date.parse(session.started_at ?? ""), ended = Date.parse(session.ended_at);
  return h("span", null, since(session.ended_at), Number.isNaN(began) ? "" : `, took ${seconds((ended - began) / 1000)}`);
}
