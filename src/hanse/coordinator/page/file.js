// A file of one's own, looked at in the browser: what a registration would say of it. The file is not sent.

import { h } from "./dom.js";
import { changed, state } from "./model.js";
import { count, percent } from "./format.js";
import { empty, fact, section } from "./parts.js";
import { Unreadable, figures, joined, table } from "./table.js";

const MOST = 50e6; // bytes; a node reads larger ones
const FEW = 10; // rows: the minimum that a node starts with

export function fileView() {
  const { files = {}, table: given, unread } = state.file;
  const input = (name, label, help) => h("div", { class: "field", key: name }, h("label", { for: `f-${name}` }, label), h("input", { id: `f-${name}`, type: "file", accept: ".csv,.tsv,.tab,.txt", onclick: (event) => { event.currentTarget.value = ""; }, onchange: (event) => event.currentTarget.files[0] && take(name, event.currentTarget.files[0]) }), h("p", { class: "help" }, files[name] ? `${files[name].name}: ${count(files[name].size)} bytes` : help));
  return h("div", { class: "propose", key: "file" },
    h("h1", null, "Look at a file"),
    h("p", { class: "lead" }, "Your browser reads it by the rules of a node, and nothing of it is sent: the file stays on this machine. To take part, a node reads it where it lies."),
    h("div", { class: "fields narrow" }, input("rows", "Table or profile", "CSV or TSV: one row per sample; or a profile with its features or its samples as rows"), input("metadata", "Metadata, for a profile", "TSV: one row per sample, with a column of sample ids")),
    unread ? h("p", { class: "warning bad", role: "alert" }, unread) : given ? looked(given) : empty("No file is chosen yet."));
}

function looked(given) {
  const names = given.columns.map(({ name }) => name), target = names.includes(state.file.target) ? state.file.target : "";
  const found = figures(given, target), classes = [...found.classes].sort((a, b) => b[1] - a[1]);
  const wrong = given.columns.filter((one) => one.wrong), open = given.columns.filter((one) => one.kind === "open");
  return [section("file-figures", "What it holds", h("span", { class: "aside" }, "exact, for your eyes; a node rounds its rows down, and keeps small classes back and what the total would give away with them"),
    given.told ? h("p", { class: "soft" }, given.told) : null,
    wrong.map(({ name, wrong: says }) => h("p", { class: "warning bad", key: name }, h("code", null, name), `: ${says}`)),
    open.length ? h("p", { class: "warning" }, `No value in ${open.map(({ name }) => name).slice(0, 10).join(", ")}.`) : null,
    h("dl", { class: "facts card" }, fact("Samples", count(found.samples)), fact("Features", count(found.features)), fact("Sparsity", percent(found.sparsity, "no cells"), h("span", { class: "soft" }, " of the features' cells are zero or missing")), fact("Feature coverage", percent(found.coverage, "no cells"), h("span", { class: "soft" }, " of the features, on the mean, that a sample has")))),
  section("file-classes", "Classes", h("label", { class: "aside" }, "Target ", h("select", { id: "f-target", onchange: (event) => { state.file.target = event.currentTarget.value; changed(); } }, h("option", { value: "", selected: !target }, "none"), names.slice(0, 2000).map((name) => h("option", { key: name, value: name, selected: name === target }, name)))),
    !target ? h("p", { class: "soft" }, "Choose the column that is to be learned.") : found.measured ? h("p", { class: "soft" }, "A measurement: it has no classes.")
      : h("div", { class: "scroll" }, h("table", { id: "f-classes" }, h("thead", null, h("tr", null, h("th", null, "Label"), h("th", { class: "number" }, "Rows"), h("th", null, ""))), h("tbody", null, classes.slice(0, 200).map(([name, rows]) => h("tr", { key: name }, h("td", null, name), h("td", { class: "number" }, count(rows)), h("td", { class: "soft" }, rows < FEW ? `fewer than ${FEW}: a node with its first settings keeps this back` : ""))))))),
  section("file-columns", "Columns", h("span", { class: "aside" }, count(names.length)), h("ul", { class: "columns card" }, given.columns.slice(0, 2000).map(({ name, kind }) => h("li", { key: name }, h("code", null, name), " ", h("span", { class: "soft" }, kind), given.metadata.includes(name) ? h("span", { class: "soft" }, " metadata") : null))))];
}

async function decoded(file) {
  const bytes = await file.arrayBuffer();
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Unreadable(`${file.name} is not UTF-8; save it so`);
  }
}

async function take(name, file) {
  const files = { ...state.file.files, [name]: file };
  state.file = { ...state.file, files, table: null, unread: null };
  changed();
  try {
    const { rows, metadata } = files;
    if (!rows) return;
    for (const one of [rows, metadata]) if (one && one.size > MOST) throw new Unreadable(`${one.name} has ${count(one.size)} bytes; the browser reads up to ${count(MOST)}, a node reads any size`);
    const text = await decoded(rows);
    const read = metadata ? joined(rows.name, text, metadata.name, await decoded(metadata)) : table(rows.name, text);
    if (state.file.files === files) state.file = { ...state.file, table: read };
  } catch (error) {
    if (!(error instanceof Unreadable) && error?.name !== "NotReadableError") throw error;
    if (state.file.files === files) state.file = { ...state.file, unread: error.message };
  }
  changed();
}
