// The page: who is signed in, which view, and drawing it when something changed.

import { h, render } from "./dom.js";
import { changed, comeBack, drawWith, is, leave, look, lookForWays, signIn, state, waiting } from "./model.js";
import { role } from "./format.js";
import { consentsSection } from "./consents.js";
import { fileView } from "./file.js";
import { nodesSection } from "./nodes.js";
import { operateView } from "./operate.js";
import { proposeView } from "./propose.js";
import { runView } from "./run.js";
import { runsSection } from "./runs.js";
import { statisticsView } from "./statistics.js";
import { studiesSection } from "./studies.js";
import { command } from "./parts.js";

const CONNECTION = { live: "live", connecting: "connecting", lost: "connection lost, trying again" };

function route() {
  const [, view = "", id = ""] = location.hash.replace(/^#/, "").split("/");
  let plain = "";
  try { plain = decodeURIComponent(id); } catch { /* not an address of ours */ }
  return { view, id: plain };
}

function top(view) {
  const name = state.coordinator.name || "Hanse";
  const link = (to, words, on) => h("a", { key: to, href: to, "aria-current": on ? "page" : null }, words);
  const open = waiting().length;
  return h("header", { class: "top", key: "top" },
    h("div", { class: "bar" },
      h("a", { class: "brand", href: "#/" }, h("img", { src: "/page/favicon.svg", alt: "", width: 28, height: 28 }), h("span", null, h("b", null, name), h("span", null, name === "Hanse" ? location.host : "a Hanse federation"))),
      state.phase === "ready" ? h("nav", { "aria-label": "Views" }, link("#/", ["Overview", open ? h("span", { class: "badge", title: `${open} wait for your consent` }, open) : null], view === "" || view === "runs"), is("data_scientist", "operator") ? [link("#/propose", "Propose a run", view === "propose"), link("#/statistics", "Statistics", view === "statistics")] : null, link("#/file", "Look at a file", view === "file"), is("operator") ? link("#/operate", "Operate", view === "operate") : null) : null,
      state.phase === "ready" ? h("div", { class: "me" }, h("span", { class: `live ${state.connection}`, role: "status" }, h("span", { class: "dot", "aria-hidden": "true" }), CONNECTION[state.connection]), h("span", { class: "who", title: state.me.id }, h("b", null, state.me.name), h("span", null, role(state.me.role))), h("button", { type: "button", class: "quiet", onclick: () => { location.hash = "#/"; leave(); } }, "Sign out")) : null));
}

function signInView() {
  const submit = (event) => {
    event.preventDefault();
    const field = event.currentTarget.elements.namedItem("token");
    signIn(field.value);
    field.value = "";
  };
  return h("div", { class: "signin", key: "signin" },
    h("h1", null, "Learn together. Let nobody rule inside your walls."),
    h("p", { class: "lead" }, "This is a Hanse coordinator. Data stay where they are; what leaves an institution is what its owner agreed to. Sign in to see the federation."),
    state.ways?.oidc ? h("p", null, h("a", { class: "button main", href: "/login" }, "Log in with your institution"), h("span", { class: "soft" }, ` at ${new URL(state.ways.issuer).host}`)) : null,
    h("form", { class: "card", onsubmit: submit },
      h("label", { for: "token" }, "Your API token"),
      h("input", { id: "token", name: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "hanse_…", created: (field) => setTimeout(() => field.focus(), 0) }),
      h("p", { class: state.problem ? "help bad" : "help", role: state.problem ? "alert" : null }, state.problem ?? "It is kept until you close this tab, and goes only to this coordinator."),
      h("button", { class: "main", disabled: state.phase === "loading" }, state.phase === "loading" ? "signing in…" : "Sign in")),
    h("p", { class: "soft" }, "The operator's first token lies in ", h("code", null, "operator.token"), " in the coordinator's home; the operator makes all others."),
    command(`hanse login ${location.origin}`));
}

function view() {
  const { view: name, id } = route();
  if (state.phase !== "ready") return [top(name), h("main", { id: "main", key: "main" }, signInView())];
  look(name === "runs" && id ? id : null);
  const body = name === "runs" && id ? runView() : name === "propose" ? proposeView() : name === "statistics" ? statisticsView() : name === "operate" ? operateView() : name === "file" ? fileView() : overview();
  return [top(name), h("main", { id: "main", key: "main", tabindex: -1 }, body),
    h("div", { class: "notices", key: "notices", "aria-live": "polite" }, state.notice ? h("p", { class: state.notice.bad ? "notice bad" : "notice" }, state.notice.text, h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => { state.notice = null; changed(); } }, "×")) : null),
    h("footer", { key: "foot" }, `Hanse ${state.coordinator.version ?? ""}`, h("a", { href: "/docs" }, "REST interface"))];
}

function overview() {
  return h("div", { class: "overview", key: "overview" }, h("h1", { class: "hidden" }, "Overview"), is("data_owner") ? consentsSection() : null, runsSection(), studiesSection(), nodesSection());
}

let before = [];
let asked = 0;
function draw() {
  asked = 0;
  before = render(document.getElementById("page"), view(), before);
  const { view: name } = route();
  const what = state.phase !== "ready" ? "sign in" : state.run?.session ? state.run.session.name || state.run.id : { propose: "propose", statistics: "statistics", operate: "operate", file: "a file" }[name] ?? "overview";
  const words = `${what} · ${state.coordinator.name || "Hanse"}`;
  if (document.title !== words) document.title = words;
}

drawWith(() => { asked ||= requestAnimationFrame(draw); });
addEventListener("hashchange", () => { state.form.confirm = null; changed(); scrollTo({ top: 0 }); });
setInterval(() => { if (!document.hidden && state.phase === "ready") changed(); }, 5000); // "12 s ago" grows
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part after # is the view
  document.getElementById("main").focus();
});
draw();
const { view: begun, id: code } = route();
if (begun === "login" && code) {
  history.replaceState(null, "", "/"); // it is of one use, and stays in no history
  comeBack(code);
} else if (state.phase === "loading") signIn();
if (state.phase !== "ready") lookForWays();
