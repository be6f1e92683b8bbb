// A proposal: what is asked of whom, with a preview of how the columns of the sites fit together.

import { h } from "./dom.js";
import * as api from "./api.js";
import { changed, edit, is, readSchema, readSessions, state } from "./model.js";
import { alignmentView } from "./nodes.js";
import { empty, section } from "./parts.js";

const LABELS = {
  model_name: "Model", target_column: "Column to predict", task_type: "Kind of task", num_rounds: "Rounds", feature_strategy: "Features",
  expected_client_ids: "Nodes to ask", name: "Name", purpose: "Purpose", study: "Study", tags: "Data with these tags", auto_start: "Start by itself when all have agreed",
  sample_id_column: "Column that names the row", federated_strategy: "Algorithm", features: "Only these features", seed: "Random seed", test_fraction: "Share held out for evaluation",
  local_epochs: "Local epochs", batch_size: "Batch size", learning_rate: "Learning rate", server_learning_rate: "Server learning rate", model_options: "Model options (JSON)", plan: "PyTorch training plan",
  fraction: "Share of nodes asked per round", selection: "Who is asked to train", evaluate_every: "Rounds between evaluations by everybody", min_available_nodes: "Nodes online to begin a round", min_fit_nodes: "Ask at least", min_completed: "Answers needed", max_weight_share: "Largest share of one node",
  round_timeout_s: "Late after (seconds without progress)", reconnect_timeout_s: "May be away for (seconds)", wait_timeout_s: "Wait for nodes (seconds)", max_failed_rounds: "Failed rounds in a row", consent_timeout_s: "Proposal expires after (days)",
};
const FIRST = ["name", "purpose", "study", "tags", "expected_client_ids", "model_name", "target_column", "task_type", "num_rounds", "feature_strategy"];
const GROUPS = {
  "How it learns": ["federated_strategy", "model_options", "plan"],
  "Data and evaluation": ["features", "sample_id_column", "test_fraction", "seed"],
  "Who takes part, and how long one waits": ["auto_start", "consent_timeout_s", "fraction", "selection", "evaluate_every", "min_available_nodes", "min_fit_nodes", "min_completed", "max_weight_share", "round_timeout_s", "reconnect_timeout_s", "wait_timeout_s", "max_failed_rounds"],
};
const WORDS = { intersection: "intersection: what all sites have", union: "union: what any site has", auto: "auto" };
const HELP = { consent_timeout_s: "then it expires, and nobody is bound", expected_client_ids: "none chosen: all whose data carry the tags", features: "none named: all that the strategy gives", sample_id_column: "never a feature; leave it empty if there is none" };
const DAY = 86400;

export function proposeView() {
  if (!is("data_scientist", "operator")) return empty("Only data scientists propose runs.");
  if (!state.schema) { readSchema(); return h("div", { class: "loading" }); }
  if (!state.form.analysed) analyse({ tags: [], ids: [] });
  const settings = new Map(offered(state.schema, state.form.chosen ?? {}).map((one) => [one.name, one]));
  const own = [...settings.values()].filter((one) => one.own).map((one) => one.name);
  const placed = new Set([...FIRST, ...Object.values(GROUPS).flat(), ...own]);
  const groups = { ...GROUPS, "Further settings": [...settings.keys()].filter((name) => !placed.has(name)) };
  groups["How it learns"] = [...GROUPS["How it learns"], ...own];
  const shown = (names) => names.filter((name) => settings.has(name)).map((name) => field(settings.get(name)));
  return h("form", { class: "propose", key: "propose", onsubmit: submit, onchange: preview, novalidate: true },
    h("h1", null, "Propose a run"),
    h("p", { class: "lead" }, "Nothing runs yet: the owners of the data see this proposal, its code and its hash, and decide."),
    h("div", { class: "pair wide" },
      h("div", null, h("div", { class: "fields" }, shown(FIRST)),
        Object.entries(groups).map(([name, names]) => { const fields = shown(names); return fields.length ? h("details", { class: "group", key: name }, h("summary", null, name), h("div", { class: "fields" }, fields)) : null; })),
      h("aside", { class: "preview", "aria-live": "polite" }, section("fit", "How the data fit together", null, fit()))),
    state.form.refused ? h("div", { class: "warning bad", role: "alert" }, h("p", null, state.form.refused.message), state.form.refused.details.map((one) => h("p", { key: one.field }, `${one.field}: ${one.message}`))) : null,
    h("div", { class: "buttons" }, h("button", { class: "main", disabled: Boolean(state.form.sending) }, state.form.sending ? "sending…" : "Send the proposal")));
}

function kind(setting) {
  if (setting.name === "expected_client_ids") return "nodes";
  if (setting.name === "plan") return "plan";
  if (choices(setting)) return "choice";
  const types = alternatives(setting).map((one) => one.type);
  return { array: "list", boolean: "boolean", number: "number", integer: "number", object: "object" }[types.find((type) => type && type !== "null")] ?? "text";
}

const alternatives = (setting) => setting.schema.anyOf ?? [setting.schema];
const nullable = (setting) => alternatives(setting).some((one) => one.type === "null");

function choices(setting) {
  if (setting.schema.enum) return setting.schema.enum;
  if (!setting.names || setting.schema.type !== "string") return null;
  const named = Object.keys(state.schema.ingredients[setting.names]);
  return named.includes(setting.default) ? named : [setting.default, ...named];
}

/** The settings of every run, and those of the ingredients that are chosen now (of "auto": the model's algorithm). */
export function offered(schema, chosen) {
  const found = [...schema.settings];
  for (const setting of schema.settings) {
    if (!setting.names || setting.names in schema.apart) continue;
    const model = chosen.model_name ?? schema.settings.find((one) => one.names === "models").default;
    const name = chosen[setting.name] ?? setting.default;
    const ingredient = schema.ingredients[setting.names][name] ?? schema.ingredients[setting.names][schema.automatic[model]];
    for (const one of ingredient?.settings ?? []) found.push({ ...one, own: true });
  }
  return found;
}

const label = (name) => LABELS[name] ?? name;
const wrong = (name) => state.form.refused?.details.find((one) => one.field === name)?.message ?? (state.form.refused?.message.startsWith(`${name} `) ? state.form.refused.message : null);

function field(setting) {
  const { name } = setting, what = kind(setting), id = `f-${name}`, help = `${id}-help`;
  const common = { id, name, "aria-describedby": help, "aria-invalid": wrong(name) ? "true" : null };
  const value = name === "consent_timeout_s" ? setting.default / DAY : name === "target_column" ? "" : setting.default;
  let control;
  if (what === "choice") {
    const listed = choices(setting);
    const start = listed.includes(value) ? value : listed[0];
    control = h("select", common, listed.map((one) => h("option", { key: one, value: one, selected: one === start }, WORDS[one] ?? one)));
  } else if (what === "boolean") control = h("input", { ...common, type: "checkbox", checked: value });
  else if (what === "number" || what === "integer") control = h("input", { ...common, type: "text", inputmode: "decimal", value: String(value ?? "") });
  else if (name === "purpose") control = h("textarea", { ...common, rows: 3, required: true, placeholder: "What is it for, who will use the result?" });
  else if (what === "object") control = h("textarea", { ...common, rows: 2, spellcheck: "false", class: "mono", placeholder: '{"max_depth": 4}' });
  else if (what === "plan") control = h("div", { class: "stack" }, h("input", { id, name: "plan.name", type: "text", placeholder: "name of the plan in the source" }), h("textarea", { name: "plan.source", rows: 6, spellcheck: "false", class: "mono", "aria-label": "Source of the plan", placeholder: "Python source; the owners read it before they agree" }));
  else if (what === "nodes") control = nodesField();
  else if (what === "list") control = h("input", { ...common, type: "text", list: name === "tags" ? "tags" : "columns", placeholder: name === "tags" ? "all datasets; or: heart, 2024" : "all; or: age, sex", autocomplete: "off" });
  else control = h("input", { ...common, type: "text", value: value ?? "", list: name === "target_column" ? "columns" : null, autocomplete: "off", placeholder: name === "target_column" ? "which one?" : nullable(setting) ? "none" : "" });
  const text = HELP[name] ?? setting.help;
  return h(what === "nodes" ? "fieldset" : "div", { key: name, class: `field kind-${what} ${name}` }, h(what === "nodes" ? "legend" : "label", what === "nodes" ? null : { for: id }, label(name), h("code", { class: "setting" }, name)), control, h("p", { id: help, class: wrong(name) ? "help bad" : "help" }, wrong(name) ?? text),
    name === "tags" ? h("datalist", { id: "tags" }, allTags().map((one) => h("option", { key: one, value: one }))) : null,
    name === "target_column" ? h("datalist", { id: "columns" }, allColumns().map((one) => h("option", { key: one, value: one }))) : null);
}

const allTags = () => [...new Set(state.nodes.flatMap((node) => (node.datasets ?? []).flatMap((data) => data.tags ?? [])))].sort();
const allColumns = () => [...new Set([...(state.form.analysis?.common_metadata_columns ?? []), ...(state.form.analysis?.union?.features ?? [])])].sort();

function nodesField() {
  const nodes = state.nodes.filter((node) => node.status !== "revoked");
  if (!nodes.length) return h("p", { class: "soft" }, "No node has joined yet.");
  return h("div", { class: "checks" }, nodes.map((node) => h("label", { class: "check", key: node.id }, h("input", { type: "checkbox", name: "expected_client_ids", value: node.id }), node.id, h("span", { class: "soft" }, node.status))));
}

function fit() {
  const { analysis, analysisProblem } = state.form;
  if (analysisProblem) return h("p", { class: "warning" }, analysisProblem);
  return analysis ? alignmentView(analysis) : h("p", { class: "soft" }, "reading…");
}

const list = (text) => text.split(/[,\s]+/).map((one) => one.trim()).filter(Boolean);

let wanted = 0;
async function analyse({ tags, ids }) {
  state.form.analysed = true;
  const mark = ++wanted;
  let found = null, problem = null;
  try {
    found = await api.get(api.path("/api/training/analyze", {}, { client_ids: ids.join(","), tags: tags.join(","), include: "features" }));
  } catch (error) {
    problem = error instanceof api.Refused ? error.message : "The coordinator did not answer.";
  }
  if (mark !== wanted) return; // a newer question is on its way
  Object.assign(state.form, { analysis: found, analysisProblem: problem });
  changed();
}

function preview(event) {
  if (state.schema.settings.some((one) => one.names && one.name === event.target.name)) edit("chosen", { ...state.form.chosen, [event.target.name]: event.target.value });
  if (!["tags", "expected_client_ids"].includes(event.target.name)) return;
  const form = new FormData(event.currentTarget);
  analyse({ tags: list(form.get("tags") ?? ""), ids: form.getAll("expected_client_ids") });
}

/** The settings that differ from their defaults; what cannot be read is named. */
export function read(form, settings) {
  const body = {}, details = [];
  for (const setting of settings) {
    const { name } = setting, what = kind(setting);
    let value;
    if (what === "boolean") value = form.has(name);
    else if (what === "nodes") value = form.getAll(name).length ? form.getAll(name) : null;
    else if (what === "plan") { const source = form.get("plan.source") ?? ""; value = source.trim() ? { name: (form.get("plan.name") ?? "").trim(), source } : null; }
    else {
      const text = String(form.get(name) ?? "").trim();
      if (what === "number" || what === "integer") {
        if (text === "") continue;
        value = Number(text.replace(",", "."));
        if (!Number.isFinite(value)) { details.push({ field: name, message: `${label(name)} is “${text}”; a number is needed` }); continue; }
        if (name === "consent_timeout_s") value *= DAY;
      } else if (what === "list") value = text ? list(text) : setting.default;
      else if (what === "object") {
        if (text === "") continue;
        try { value = JSON.parse(text); } catch (error) { details.push({ field: name, message: `${label(name)} is not JSON: ${error.message}` }); continue; }
      } else value = text === "" && nullable(setting) ? null : text;
    }
    if (value === "" && setting.default !== "" && name !== "target_column") continue;
    if (name === "target_column" || JSON.stringify(value) !== JSON.stringify(setting.default)) body[name] = value;
  }
  return { body, details };
}

async function submit(event) {
  event.preventDefault();
  const { body, details } = read(new FormData(event.currentTarget), offered(state.schema, state.form.chosen ?? {}));
  if (!body.purpose) details.push({ field: "purpose", message: "Say what it is for: the data owners decide by it." });
  if (details.length) return edit("refused", { message: "Please look at these again.", details });
  edit("sending", true);
  try {
    const session = await api.post("/api/training/start", body);
    Object.assign(state.form, { refused: null, sending: false });
    readSessions();
    location.hash = `#/runs/${encodeURIComponent(session.session_id)}`;
  } catch (error) {
    Object.assign(state.form, { sending: false, refused: error instanceof api.Refused ? { message: error.message, details: error.details } : { message: "The coordinator did not answer.", details: [] } });
  }
  return changed();
}

