// The regression table of an exact fit: terms, estimates, standard errors, intervals, p-values.

import { h } from "./dom.js";
import * as api from "./api.js";
import { changed, mine } from "./model.js";
import { number } from "./format.js";
import { section } from "./parts.js";

const EFFECTS = { odds_ratio: "Odds ratio", rate_ratio: "Rate ratio", hazard_ratio: "Hazard ratio" };
const known = (value) => typeof value === "number";

/** The part of a run's page that shows its coefficients; they are read once, when there are any. */
export function fitted(run) {
  const session = run.session;
  if (session.state !== "completed" || !(session.nearness ?? "").startsWith("exact") || !session.result || !mine(session)) return null;
  if (!run.coefficients) {
    run.coefficients = { terms: [] };
    api.get(api.path("/api/runs/{id}/coefficients", { id: run.id })).then((found) => { run.coefficients = found; changed(); }, (error) => { run.coefficients = { terms: [], problem: error instanceof api.Refused ? error.message : "The coordinator did not answer." }; changed(); });
  }
  return regression(run.coefficients, session.nearness);
}

export function regression({ terms, effect, level, problem, basis }, nearness) {
  if (problem) return section("coefficients", "Coefficients", null, h("p", { class: "warning" }, problem));
  if (!terms.length) return null;
  const outcomes = terms.some((term) => term.outcome), t = terms.some((term) => known(term.degrees));
  const interval = `${number(100 * level)} % CI`, notes = [...new Set(terms.map((term) => term.note).filter(Boolean))];
  const heads = ["Estimate", "Std. error", interval, t ? "t" : "z", "p", ...(effect ? [EFFECTS[effect] ?? effect, interval] : [])];
  const cell = (value) => h("td", { class: "number" }, value);
  return section("coefficients", "Coefficients", h("span", { class: "aside soft" }, nearness),
    h("div", { class: "scroll" }, h("table", null,
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Term"), outcomes ? h("th", { scope: "col" }, "Outcome") : null, heads.map((name, i) => h("th", { key: i, scope: "col", class: "number" }, name)))),
      h("tbody", null, terms.slice(0, 500).map((term, i) => h("tr", { key: i },
        h("th", { scope: "row" }, term.name, term.reference ? h("span", { class: "soft" }, ` against ${term.reference}`) : null, term.note ? h("sup", { title: term.note }, notes.indexOf(term.note) + 1) : null),
        outcomes ? h("td", null, term.outcome) : null,
        cell(number(term.coefficient, "–")), cell(number(term.standard_error, "–")), cell(range(term.low, term.high)), cell(number(term.statistic, "–")), cell(likely(term.p_value)),
        effect ? [cell(number(term.ratio, "–")), cell(range(term.ratio_low, term.ratio_high))] : null))))),
    basis ? h("p", { class: "soft" }, `${basis[0].toUpperCase()}${basis.slice(1)}.`) : null,
    notes.map((note, i) => h("p", { key: note, class: "soft" }, `${i + 1}: ${note}`)),
    terms.length > 500 ? h("p", { class: "soft" }, `and ${terms.length - 500} more: result.coefficients() in Python has all`) : null);
}

const range = (low, high) => (known(low) || known(high) ? `${number(low, "–")} to ${number(high, "–")}` : "–");
const likely = (p) => (!known(p) ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
