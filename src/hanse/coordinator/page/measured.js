// What was measured of a model when it had been learned: metrics by group, every site's model at every site.

import { h } from "./dom.js";
import { edit, state } from "./model.js";
import { METRICS, count, number } from "./format.js";
import { section } from "./parts.js";

const HIGHER = ["auc", "accuracy", "c_index", "r2", "d2"]; // better the higher they are, the first first

export function measured(told = {}) {
  return [told.groups ? groups(told.groups) : null, told.cross_site ? matrix(told.cross_site) : null];
}

const named = (metric) => METRICS[metric] ?? (metric.endsWith("_error") ? `± ${named(metric.slice(0, -6))}` : metric);
const figure = (value) => h("td", { class: "number" }, number(value, "–"));

function groups({ groups: rows, more, silent }) {
  const metrics = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((name) => !["column", "group", "rows", "sites", "implausible"].includes(name));
  return section("groups", "Metrics by group", h("span", { class: "aside soft" }, "on held-out rows of the sites that told them"), rows.length
    ? h("div", { class: "scroll" }, h("table", null,
      h("thead", null, h("tr", null, ["Column", "Group"].map((name) => h("th", { key: name, scope: "col" }, name)), ["Rows", "Sites", ...metrics.map(named)].map((name) => h("th", { key: name, scope: "col", class: "number" }, name)))),
      h("tbody", null, rows.map((row) => h("tr", { key: `${row.column} ${row.group}` }, h("th", { scope: "row" }, row.column), h("td", null, row.group), h("td", { class: "number" }, count(row.rows)), h("td", { class: "number" }, count(row.sites)), metrics.map((name) => figure(row[name])))))))
    : h("p", { class: "soft" }, "No site has enough held-out rows of any group."),
    silent?.length && rows.length ? h("p", { class: "soft" }, `No site tells a group of ${silent.join(", ")}.`) : null,
    rows.length ? h("p", { class: "soft" }, "Each site keeps groups back that have fewer held-out rows, or fewer of a class, than its owner's minimum.") : null,
    more ? h("p", { class: "soft" }, `${more} further groups are not told.`) : null);
}

function matrix({ cells, models, metrics, few }) {
  const known = metrics.filter((name) => cells.some((cell) => typeof cell[name] === "number"));
  const chosen = known.includes(state.form.crossSite) ? state.form.crossSite : HIGHER.find((name) => known.includes(name)) ?? known[0];
  const sites = [...new Set(cells.map((cell) => cell.site))].sort();
  const at = new Map(cells.map((cell) => [JSON.stringify([cell.model, cell.site]), cell[chosen]]));
  return section("cross-site", "Own and common models at every site",
    h("span", { class: "aside" }, known.map((name) => h("button", { key: name, type: "button", class: "quiet", "aria-pressed": name === chosen ? "true" : "false", onclick: () => edit("crossSite", name) }, named(name)))),
    h("p", { class: "soft" }, `${named(chosen)} on the held-out rows of each site: a row for each model, the one of all first.`),
    h("div", { class: "scroll" }, h("table", null,
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Model of"), sites.map((site) => h("th", { key: site, scope: "col", class: "number" }, site)))),
      h("tbody", null, models.map((model) => h("tr", { key: model }, h("th", { scope: "row" }, model), sites.map((site) => figure(at.get(JSON.stringify([model, site])))))))))
    , few.length ? h("p", { class: "soft" }, `${few.join(", ")}: too few held-out rows to be told.`) : null);
}
