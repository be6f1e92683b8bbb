// For the operator: letting nodes and people in, and seeing what was refused and what was done.

import { h } from "./dom.js";
import * as api from "./api.js";
import { act, edit, is, readNodes, readOperator, state } from "./model.js";
import { ROLES, clock, role, utc } from "./format.js";
import { command, copyable, empty, moment, section, shortHash, since, sure, tag } from "./parts.js";
import { eventRow } from "./run.js";
import { makeStudy } from "./studies.js";

export function operateView() {
  if (!is("operator")) return empty("Only the operator sees this.");
  return h("div", { class: "operate", key: "operate" }, h("h1", null, "Operate"),
    state.operator.made ? shown(state.operator.made) : null,
    h("div", { class: "pair" }, join(), accounts()), makeStudy(), registry(), h("div", { class: "pair" }, refused(), audit()));
}

/** A secret that is to be seen once. */
function shown(made) {
  return h("div", { class: "card secret", role: "status", key: made.token },
    h("h3", null, made.title), h("p", null, made.text),
    made.commands.map((one) => command(one)),
    h("p", { class: "soft" }, "It is shown only now. Hand it over on a safe way."),
    h("button", { type: "button", onclick: () => { state.operator.made = null; edit("made", null); } }, "Done, hide it"));
}

function join() {
  const make = async (event) => {
    event.preventDefault();
    const form = event.currentTarget, data = new FormData(form);
    const body = { ...(data.get("node")?.trim() ? { node: data.get("node").trim() } : {}), ...(data.get("owner") ? { owner: data.get("owner") } : {}), valid_s: 86400 * Number(data.get("days")) };
    const made = await act(() => api.post("/api/nodes/join-tokens", body));
    if (!made) return;
    form.reset();
    state.operator.made = { token: made.token, title: `Join token${made.node ? ` for ${made.node}` : ""}`, text: "The institution runs this beside its data; the node makes its own key, which never leaves it:", commands: [`hanse node init --join ${made.token} --name ${made.node ?? "NAME"}`, "hanse node dataset add FILE --tags TAG", "hanse node start"] };
    readOperator();
    scrollTo({ top: 0 });
  };
  const tokens = state.operator.tokens.filter((one) => !one.used_at && Date.parse(one.expires) > Date.now());
  const owners = state.operator.accounts.filter((one) => role(one.role) === "data owner" && !one.disabled);
  return section("join", "Let a node join", null,
    h("form", { class: "fields line", onsubmit: make },
      h("div", { class: "field" }, h("label", { for: "join-node" }, "Its name"), h("input", { id: "join-node", name: "node", required: true, pattern: "[A-Za-z0-9]([A-Za-z0-9._\\-]{0,62}[A-Za-z0-9])?", title: "letters, digits, dot, underscore, hyphen", placeholder: "hospital-1", autocomplete: "off" })),
      h("div", { class: "field" }, h("label", { for: "join-owner" }, "Its owner"), h("select", { id: "join-owner", name: "owner" }, h("option", { value: "" }, "nobody yet"), owners.map((one) => h("option", { key: one.id, value: one.id }, one.name)))),
      h("div", { class: "field" }, h("label", { for: "join-days" }, "Valid for"), h("select", { id: "join-days", name: "days" }, [[1, "1 day"], [7, "7 days"], [30, "30 days"]].map(([days, name]) => h("option", { key: days, value: days }, name)))),
      h("button", { class: "main" }, "Make a join token")),
    tokens.length ? h("ul", { class: "plain-list" }, tokens.map((one) => h("li", { key: one.id }, h("b", null, one.node ?? "any name"), h("span", { class: "soft" }, "not used yet, expires ", since(one.expires)), h("button", { type: "button", class: "quiet small", onclick: async () => { await act(() => api.remove(api.path("/api/nodes/join-tokens/{id}", { id: one.id })), "The join token is worth nothing now."); readOperator(); } }, "withdraw")))) : h("p", { class: "soft" }, "No join token is open."));
}

function accounts() {
  const make = async (event) => {
    event.preventDefault();
    const form = event.currentTarget, data = new FormData(form);
    const nodes = (data.get("nodes") ?? "").split(/[,\s]+/).filter(Boolean);
    const made = await act(() => api.post("/api/accounts", { name: data.get("name").trim(), role: data.get("role"), ...(nodes.length ? { nodes } : {}) }));
    if (!made) return;
    form.reset();
    reveal(made);
  };
  return section("accounts", "Accounts", null,
    h("form", { class: "fields line", onsubmit: make },
      h("div", { class: "field" }, h("label", { for: "account-name" }, "Name"), h("input", { id: "account-name", name: "name", required: true, autocomplete: "off" })),
      h("div", { class: "field" }, h("label", { for: "account-role" }, "Role"), h("select", { id: "account-role", name: "role" }, Object.entries(ROLES).reverse().map(([value, name]) => h("option", { key: value, value }, name)))),
      h("div", { class: "field" }, h("label", { for: "account-nodes" }, "Decides for nodes"), h("input", { id: "account-nodes", name: "nodes", placeholder: "for a data owner", autocomplete: "off" })),
      h("button", { class: "main" }, "Make an account")),
    h("div", { class: "scroll" }, h("table", null, h("thead", null, h("tr", null, ["Name", "Role", "Nodes", ""].map((name) => h("th", { key: name, scope: "col" }, name)))),
      h("tbody", null, state.operator.accounts.map((one) => h("tr", { key: one.id, class: one.disabled ? "off" : "" }, h("th", { scope: "row" }, one.name), h("td", { class: "role" }, role(one.role), one.disabled ? " (disabled)" : ""), h("td", null, (one.nodes ?? []).join(", ")), h("td", { class: "number" }, one.disabled || one.id === state.me.id ? null : [sure(`token ${one.id}`, "new token", async () => { const made = await act(() => api.post(api.path("/api/accounts/{id}/token", { id: one.id }))); if (made) reveal(made); }), sure(`disable ${one.id}`, "disable", async () => { await act(() => api.post(api.path("/api/accounts/{id}/disable", { id: one.id })), "Disabled."); readOperator(); })])))))));
}

function reveal(made) {
  state.operator.made = { token: made.token, title: `API token of ${made.account?.name ?? "the account"}`, text: "For this page, or on the command line:", commands: [made.token, `hanse login ${location.origin}`] };
  readOperator();
  scrollTo({ top: 0 });
}

function registry() {
  if (!state.nodes.length) return null;
  const call = (node, template, done) => async () => { await act(() => api.post(api.path(template, { id: node.id })), done); readNodes(); };
  return section("registry", "Registered nodes", null, h("div", { class: "scroll" }, h("table", null,
    h("thead", null, h("tr", null, ["Node", "State", "Last heard", "Owner", "Address", ""].map((name) => h("th", { key: name, scope: "col" }, name)))),
    h("tbody", null, state.nodes.map((node) => h("tr", { key: node.id }, h("th", { scope: "row" }, node.id), h("td", null, tag(node.status, node.status)), h("td", null, since(node.last_heartbeat)), h("td", null, state.operator.accounts.find((one) => one.id === node.owner)?.name ?? node.owner ?? "nobody"), h("td", null, h("code", null, node.address ?? "")),
      h("td", { class: "number" }, node.status === "revoked" ? h("button", { type: "button", class: "quiet small", onclick: call(node, "/api/nodes/{id}/reinstate", `${node.id} may join again.`) }, "reinstate") : sure(`revoke ${node.id}`, "revoke", call(node, "/api/nodes/{id}/revoke", `${node.id} is shut out.`)))))))));
}

function refused() {
  const events = [...state.operator.refused].sort((a, b) => b.id - a.id);
  return section("refused", "Refused messages", null, events.length ? h("ol", { class: "events" }, events.map(eventRow)) : h("p", { class: "soft" }, "Nothing was refused."));
}

function audit() {
  const { verdict, audit: entries } = state.operator;
  return section("audit", "Audit", verdict ? h("span", { class: "aside" }, verdict.ok ? tag("completed", `whole: ${verdict.entries} entries fit together`) : tag("failed", `broken at entry ${verdict.first_bad}: ${verdict.reason}`)) : null,
    entries.length ? h("ol", { class: "events audit" }, entries.toReversed().map((one) => h("li", { key: one.seq }, h("time", { datetime: one.time, title: utc(one.time) }, clock(one.time)), h("span", null, h("b", null, one.action), " ", one.subject), h("span", { class: "soft" }, one.actor, " ", shortHash(one.hash))))) : h("p", { class: "soft" }, "Nothing yet."),
    verdict?.head ? h("p", { class: "soft" }, `Head ${verdict.head[0]}: `, shortHash(verdict.head[1]), copyable(`${verdict.head[0]} ${verdict.head[1]}`, "copy"), " Publish it elsewhere, and the past is fixed.") : null);
}
