// The nodes: who is on line, what they hold, what they are at.

import { h } from "./dom.js";
import { edit, is, readNodes, state } from "./model.js";
import { count, percent, place } from "./format.js";
import { command, empty, fact, section, since, tag, title } from "./parts.js";

const RANK = { online: 0, stale: 1, offline: 2, revoked: 3 };
const WORDS = { lost: "connection lost", online: "online", stale: "stale: three heartbeats missed", offline: "offline", revoked: "revoked" };

export function nodesSection() {
  const nodes = [...state.nodes].sort((a, b) => (RANK[a.status] ?? 9) - (RANK[b.status] ?? 9) || a.id.localeCompare(b.id));
  const online = nodes.filter((node) => node.status === "online").length;
  const extra = nodes.length ? h("span", { class: "aside" }, `${online} of ${nodes.length} online`, h("label", { class: "check" }, h("input", { type: "checkbox", checked: Boolean(state.form.columns), onchange: (event) => { edit("columns", event.currentTarget.checked); readNodes(); } }), "show columns")) : null;
  return section("nodes", "Nodes", extra, nodes.length ? h("div", { class: "cards" }, nodes.map(card)) : none());
}

function none() {
  if (is("operator")) {
    return empty("No node has joined yet.", h("p", null, "Make a join token under ", h("a", { href: "#/operate" }, "Operate"), ", hand it to the institution, and let them run there:"),
      command("hanse node init --join TOKEN --name hospital-1"), command("hanse node dataset add patients.csv --tags heart"), command("hanse node start"));
  }
  return empty("No node has joined yet.", h("p", null, "The federation's operator makes a join token; the institution then runs:"), command("hanse node init --join TOKEN --name hospital-1"), command("hanse node start"));
}

/** What a node is at: "heart risk, round 3", or null. */
export function work(node) {
  const told = typeof node.busy === "object" && node.busy ? node.busy : null;
  const session = told?.session_id ? state.sessions.find((one) => one.session_id === told.session_id)
    : state.sessions.find((one) => one.state === "running" && one.expected_clients?.includes(node.id) && node.busy);
  if (!session && !node.busy) return null;
  if (!session) return { text: "busy" };
  const round = told?.round ?? (session.current_round === null || session.current_round === undefined ? null : Math.min(session.current_round + 1, session.num_rounds ?? Infinity));
  return { text: `${title(session)}${round === null ? "" : `, round ${round}`}`, href: `#/runs/${encodeURIComponent(session.session_id)}` };
}

function card(node) {
  const at = node.status === "online" ? work(node) : null;
  const lost = node.status === "online" && node.connected === false; // heard of lately, but cannot be asked now
  const own = state.me?.nodes?.includes(node.id);
  return h("article", { class: `card node ${node.status}`, key: node.id },
    h("header", null, h("h3", null, node.id), own ? h("span", { class: "own" }, "yours") : null, tag(lost ? "stale" : node.status, WORDS[lost ? "lost" : node.status] ?? node.status)),
    (node.warnings ?? []).map((warning) => h("p", { class: "warning", key: warning }, warning)),
    h("dl", { class: "facts" },
      fact("Last heard", node.status === "offline" && !node.last_heartbeat ? "never" : since(node.last_heartbeat)),
      node.country ? fact("Country", place(node.country)) : null,
      fact("Working on", at ? (at.href ? h("a", { href: at.href }, at.text) : at.text) : h("span", { class: "soft" }, "nothing")),
      fact("Consent", node.consent_mode === "node" ? "only at the node" : node.consent_mode === "coordinator" ? "here or at the node" : "unknown")),
    (node.datasets ?? []).length ? h("ul", { class: "datasets" }, node.datasets.map((data) => dataset(node, data))) : h("p", { class: "soft" }, "No dataset yet. Its owner runs ", h("code", null, "hanse node dataset add FILE --tags TAG")));
}

function dataset(node, one) {
  const columns = Object.entries((state.form.columns && state.columns.get(`${node.id} ${one.name} ${one.version}`)) || {});
  return h("li", { key: one.name },
    h("div", null, h("b", null, one.name), " ", h("span", { class: "soft" }, [one.kind, one.rows === null || one.rows === undefined ? "rows not told" : `${count(one.rows)} rows`, one.has_mock ? "mock data" : null].filter(Boolean).join(" · "))),
    (one.tags ?? []).length ? h("div", { class: "chips" }, one.tags.map((name) => h("span", { class: "chip", key: name }, name))) : null,
    columns.length ? h("details", null, h("summary", null, `${columns.length} columns`), h("ul", { class: "columns" }, columns.map(([name, kind]) => h("li", { key: name }, h("code", null, name), h("span", { class: "soft" }, kind), one.metadata_columns?.includes(name) ? h("span", { class: "soft" }, "metadata") : null)))) : null);
}

/** Which features the sites share; `analysis` is /api/training/analyze. */
export function alignmentView(analysis) {
  const ids = analysis.clients ?? [];
  const shared = analysis.intersection?.features ?? [];
  return h("div", { class: "alignment" },
    h("p", null, h("b", null, count(analysis.intersection?.count)), ` columns ${ids.length === 1 ? "at this one node" : `at all ${ids.length} nodes`}, `, h("b", null, count(analysis.union?.count)), " at any."),
    h("ul", { class: "coverage" }, ids.map((id) => {
      const one = analysis.per_client?.[id] ?? {};
      return h("li", { key: id }, h("span", { class: "name" }, id), h("progress", { max: 1, value: one.coverage ?? 0, "aria-label": `${id}: share of all columns` }), h("span", { class: "value" }, `${percent(one.coverage, "unknown")} of all`), h("span", { class: "soft" }, [`${count(one.n_features)} columns`, only(one.only_here)].filter(Boolean).join(", ")),
        (analysis.label_sets?.[id] ?? []).length ? h("span", { class: "soft labels" }, `labels ${analysis.label_sets[id].join(", ")}`) : null);
    })),
    shared.length ? h("details", null, h("summary", null, "Columns at all nodes"), h("p", { class: "chips" }, shared.map((name) => h("span", { class: "chip", key: name }, name)))) : null,
    (analysis.warnings ?? []).map((text) => h("p", { class: "warning", key: text }, text)));
}

const only = (here) => {
  const amount = Array.isArray(here) ? here.length : here;
  return amount ? `${amount} only here` : "";
};

