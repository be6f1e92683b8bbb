// Small things that all views use: states in words, times, hashes to copy, what to do next.

import { h } from "./dom.js";
import { edit, notify, state } from "./model.js";
import { STATES, ago, short, utc, when } from "./format.js";

export const tag = (kind, words) => h("span", { class: `tag ${kind}` }, h("span", { class: "dot", "aria-hidden": "true" }), words);
export const stateTag = (name) => tag(name, STATES[name] ?? name);

/** A moment in local time, UTC on hover. */
export const moment = (time, unknown) => h("time", { datetime: time ?? undefined, title: utc(time) || undefined }, when(time, unknown));
export const since = (time, unknown) => h("time", { datetime: time ?? undefined, title: utc(time) ? `${when(time)} · ${utc(time)}` : undefined }, ago(time, Date.now(), unknown));

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    notify("Copied.");
  } catch {
    notify("The browser does not let this page copy; select the text instead.", true);
  }
}

export const copyable = (text, what = "copy") => h("button", { type: "button", class: "quiet small", onclick: () => copy(text) }, what);
export const command = (text) => h("div", { class: "command" }, h("code", null, text), copyable(text));

/** A hash in groups of eight, so that two people can compare it by reading. */
export const hash = (text) => h("code", { class: "hash", title: "SHA-256" }, (text ?? "").match(/.{1,8}/g)?.join(" ") ?? "none");
export const shortHash = (text) => h("code", { title: text ? `SHA-256 ${text}` : undefined }, short(text));

export const empty = (title, ...more) => h("div", { class: "empty" }, h("p", { class: "title" }, title), ...more);
export const section = (id, title, extra, ...body) => h("section", { class: "section", key: id, "aria-labelledby": `h-${id}` }, h("header", null, h("h2", { id: `h-${id}` }, title), extra), ...body);
export const fact = (name, ...value) => [h("dt", null, name), h("dd", null, ...value)];

export function progress(session) {
  if (session.learns === false) return h("span", { class: "soft" }, session.state === "running" ? "asking" : "");
  const total = session.num_rounds ?? session.config?.num_rounds ?? 0, done = session.current_round ?? 0;
  const all = session.state === "completed"; // an exact fit may converge, and another stop, before its last round
  return h("div", { class: "progress" },
    h("progress", { max: total || 1, value: all ? total || 1 : Math.min(done, total || 1), class: session.state, "aria-label": `${done} of ${total} rounds` }),
    h("span", null, session.current_round === null || session.current_round === undefined ? session.ended_at ? "no round" : `no round yet, ${total} planned` : done > total ? `${done} rounds` : all && done < total ? `${done} of at most ${total} rounds` : `round ${done} of ${total}`));
}

export const origin = () => state.coordinator.url || location.origin;
export const title = (session) => session.name || (session.learns === false ? session.config?.federated_strategy ?? "run" : "") || `${session.config?.model_name ?? "run"} for ${session.config?.target_column ?? "a target"}`;

/** A button that asks once more. */
export function sure(name, words, work) {
  const asked = state.form.sure === name;
  return h("button", { key: name, type: "button", class: asked ? "danger small" : "quiet small", onclick: () => { if (asked) { edit("sure", null); work(); } else edit("sure", name); }, onblur: () => { if (state.form.sure === name) edit("sure", null); } }, asked ? `really ${words}?` : words);
}
