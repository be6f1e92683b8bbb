// Studies: what for, who and which nodes, until when, and how much of what they may tell is spent.

import { h } from "./dom.js";
import * as api from "./api.js";
import { act, is, readStudies, state } from "./model.js";
import { count, number } from "./format.js";
import { fact, moment, section, sure, tag } from "./parts.js";

export function studiesSection() {
  if (!state.studies.length) return null; // as if there were none
  return section("studies", "Studies", null, h("div", { class: "cards" }, state.studies.map(card)));
}

const TONES = { open: "online", ended: "stale", closed: "offline" };

function card(study) {
  const { spent } = study;
  return h("article", { class: `card node ${study.state === "open" ? "" : "offline"}`, key: study.name },
    h("header", null, h("h3", null, study.name), tag(TONES[study.state], study.state)),
    study.purpose ? h("p", null, study.purpose) : h("p", { class: "soft" }, "No purpose was said."),
    h("dl", { class: "facts" },
      fact("People", study.people.join(", ") || "nobody"),
      fact("Nodes", study.nodes.join(", ") || "none yet"),
      fact("Runs", count(study.runs), spent.exact_runs ? `, ${count(spent.exact_runs)} without noise` : ""),
      study.ends ? fact(study.state === "ended" ? "Ended" : "Ends", moment(study.ends)) : null,
      study.most_epsilon === null ? null : fact("Privacy", budget(study))),
    is("operator") && !study.closed ? h("div", { class: "buttons" }, sure(`close ${study.name}`, "close", async () => { await act(() => api.post(api.path("/api/studies/{study}/close", { study: study.name })), `${study.name} is closed.`); readStudies(); })) : null);
}

function budget(study) {
  const { epsilon, delta } = study.spent;
  const words = `ε ${number(epsilon)} of ${number(study.most_epsilon)}`;
  return h("span", { class: "progress" },
    h("progress", { max: study.most_epsilon, value: Math.min(epsilon, study.most_epsilon), "aria-label": `${words} spent` }),
    h("span", { title: `δ ${delta} of ${study.most_delta}` }, `${words} spent`));
}

/** For the operator: a new one. */
export function makeStudy() {
  const make = async (event) => {
    event.preventDefault();
    const form = event.currentTarget, data = new FormData(form);
    const list = (name) => data.getAll(name);
    const end = data.get("ends"), epsilon = data.get("epsilon");
    const body = { name: data.get("name").trim(), purpose: data.get("purpose").trim(), people: list("people"), nodes: list("nodes"), ...(end ? { ends: `${end}T00:00:00Z` } : {}), ...(epsilon ? { most_epsilon: Number(epsilon) } : {}) };
    if (!await act(() => api.post("/api/studies", body), `The study ${body.name} is open.`)) return;
    form.reset();
    readStudies();
  };
  const people = state.operator.accounts.filter((one) => !one.disabled && one.role.replace(" ", "_") === "data_scientist");
  const checks = (name, all) => h("fieldset", { class: "field checks" }, h("legend", null, name === "people" ? "Its people" : "Its nodes"), all.length ? all.map((one) => h("label", { class: "check", key: one }, h("input", { type: "checkbox", name, value: one }), one)) : h("span", { class: "soft" }, "there are none yet"));
  return section("make-study", "Begin a study", null, h("p", { class: "soft" }, "Its nodes are asked, and seen, by its people alone from then on."),
    h("div", { class: "card make" }, h("form", { class: "fields", onsubmit: make },
      h("div", { class: "field" }, h("label", { for: "study-name" }, "Name"), h("input", { id: "study-name", name: "name", required: true, pattern: "[A-Za-z0-9]([A-Za-z0-9._\\-]{0,62}[A-Za-z0-9])?", title: "letters, digits, dot, underscore, hyphen", autocomplete: "off" })),
      h("div", { class: "field" }, h("label", { for: "study-purpose" }, "What for"), h("input", { id: "study-purpose", name: "purpose", maxlength: 4000, autocomplete: "off" })),
      checks("people", people.map((one) => one.name)), checks("nodes", state.nodes.map((node) => node.id)),
      h("div", { class: "field" }, h("label", { for: "study-ends" }, "Ends (UTC, optional)"), h("input", { id: "study-ends", name: "ends", type: "date" })),
      h("div", { class: "field" }, h("label", { for: "study-epsilon" }, "Epsilon in all (optional)"), h("input", { id: "study-epsilon", name: "epsilon", type: "number", min: "0.001", max: "1000000", step: "any", placeholder: "unbounded" })),
      h("button", { class: "main" }, "Begin it"))));
}
