// What the page knows, and how it stays true: read once, then told by the stream of events.
//
// A burst of events leads to one read at a time, never to a queue of them. The only timed read is that
// of the nodes: heartbeats are no events.

import * as api from "./api.js";

export const state = {
  phase: api.hasToken() ? "loading" : "signed-out", // signed-out, loading, ready
  connection: "connecting", // connecting, live, lost
  problem: null, // why signing in or reading failed
  notice: null, // {text, bad}
  me: null, coordinator: {}, nodes: [], sessions: [], studies: [], read: false, total: 0, details: new Map(), columns: new Map(), schema: null,
  run: null, // the one that is looked at: {id, session, analytics, steps, events, told, missing}
  recent: [], // the newest events
  operator: noOperator(),
  file: {}, // one of the reader's own, read here: {files, table, unread, target}
  form: {}, // drafts and open confirmations, by name
  hover: null, // {round, chart}
  widths: {},
};

function noOperator() {
  return { accounts: [], tokens: [], audit: [], verdict: null, refused: [], seen: 0, made: null };
}

let draw = () => {};
export const drawWith = (action) => { draw = action; };
export const changed = () => draw();

export function edit(name, value) {
  state.form[name] = value;
  changed();
}

let noticeTimer = 0;
export function notify(text, bad = false) {
  state.notice = { text, bad };
  clearTimeout(noticeTimer);
  if (!bad) noticeTimer = setTimeout(() => { state.notice = null; changed(); }, 6000);
  changed();
}

/** Does `work` for a button; says what was refused. */
export async function act(work, done = "") {
  try {
    const result = await work();
    if (done) notify(done);
    return result;
  } catch (error) {
    failed(error);
    return null;
  }
}

function failed(error) {
  if (error instanceof api.Refused && error.status === 401) signOut("The coordinator no longer accepts this token.");
  else notify(error instanceof api.Refused ? error.message : "The coordinator did not answer.", true);
}

/** One read at a time; called again while it reads, it reads once more. */
function reader(work, gap = 150) {
  let busy = false, again = false;
  return async function read() {
    if (busy) { again = true; return; }
    busy = true;
    do {
      again = false;
      const began = performance.now();
      try {
        if (state.phase !== "signed-out") await work();
        changed();
      } catch (error) {
        if (error instanceof api.Refused) failed(error);
      }
      if (again) await new Promise((done) => setTimeout(done, Math.max(gap, 2 * (performance.now() - began))));
    } while (again);
    busy = false;
  };
}

export const is = (...roles) => roles.includes((state.me?.role ?? "").replace(" ", "_"));
export const ENDED = new Set(["completed", "rejected", "expired", "cancelled", "failed"]);
export const mine = (session) => is("operator") || (is("data_scientist") && [state.me?.id, state.me?.name].includes(session.proposer));
export const asked = (session) => session.expected_clients ?? [];
export const undecided = (session) => (session.state === "awaiting_consent" ? (session.remaining ?? []) : []);

/** What this account may decide now: proposals, each with the account's nodes that it still asks. */
export const waiting = () => !is("data_owner") ? [] : state.sessions.map((session) =>
  [session, undecided(session).filter((id) => (state.me.nodes ?? []).includes(id))]).filter(([, nodes]) => nodes.length);

// ---- reads

export const readNodes = reader(async () => {
  state.nodes = (await api.get("/api/nodes")).nodes;
  if (!state.form.columns) return;
  for (const { id, datasets } of state.nodes) { // columns are told node by node, and read once for each version
    if (!(datasets ?? []).some((data) => !state.columns.has(`${id} ${data.name} ${data.version}`))) continue;
    const node = await api.get(api.path("/api/nodes/{id}", { id }));
    for (const data of node.datasets) state.columns.set(`${id} ${data.name} ${data.version}`, data.columns ?? {});
  }
});

export const readSessions = reader(async () => {
  const answer = await api.get(api.path("/api/training/sessions", {}, { limit: 100 }));
  state.sessions = answer.sessions;
  state.read = true;
  state.total = answer.total;
  const wanted = new Set(waiting().map(([session]) => session.session_id));
  for (const id of wanted) if (!state.details.has(id)) await readDetail(id);
});

export const readStudies = reader(async () => {
  state.studies = (await api.get("/api/studies")).studies;
});

export async function readDetail(id) {
  const detail = await api.get(api.path("/api/training/sessions/{id}", { id }));
  const bundle = await api.text(api.path("/api/runs/{id}/bundle", { id })).catch(() => null);
  const computed = bundle === null ? null : await api.sha256(bundle);
  state.details.set(id, { ...detail, bundle, fits: computed === null ? null : computed === detail.code_hash });
  changed();
}

const EVENTS = ["run.created", "run.state", "consent", "proposal.sent", "run.waiting", "run.done", "model", "node.refused"];

export const readRun = reader(async () => {
  const run = state.run;
  if (!run) return;
  const id = run.id;
  const after = Math.max(-1, (run.steps.at(-1)?.step ?? 0) - 2);
  const stale = run.stale;
  run.stale = false; // what is told from here on may be newer than the answers, and makes it stale again
  try {
    const [session, analytics, rounds] = await Promise.all([
      stale ? api.get(api.path("/api/training/sessions/{id}", { id })) : run.session,
      api.get(api.path("/api/analytics/session/{id}", { id })),
      api.get(api.path("/api/runs/{id}/rounds", { id }, { after, limit: 1000 })),
    ]);
    if (state.run !== run) return;
    const known = new Map(run.steps.map((step) => [`${step.step} ${step.started}`, step]));
    for (const step of rounds.rounds) known.set(`${step.step} ${step.started}`, step);
    Object.assign(run, { session, analytics, steps: [...known.values()] });
    const listed = state.sessions.findIndex((one) => one.session_id === id);
    if (listed >= 0) state.sessions[listed] = { ...state.sessions[listed], state: session.state };
    if (!run.events) {
      const kind = EVENTS.join(",");
      const { events } = await api.get(api.path("/api/events", {}, { run: id, kind, limit: 200 }));
      run.events = [...events, ...run.told.filter(({ id }) => !events.some((one) => one.id === id))];
    }
  } catch (error) {
    run.stale ||= stale;
    if (!(error instanceof api.Refused) || ![403, 404].includes(error.status)) throw error;
    run.missing = error.message;
  }
}, 200);

export const readOperator = reader(async () => {
  if (!is("operator")) return;
  const { operator } = state;
  const [accounts, tokens, verdict, refused] = await Promise.all([
    api.get("/api/accounts"), api.get("/api/nodes/join-tokens"), api.get("/api/audit/verify"),
    api.get(api.path("/api/events", {}, { kind: "node.refused,account.refused", since: operator.seen, limit: 1000 })),
  ]);
  operator.seen = refused.last_event_id;
  const end = verdict.head?.[0] ?? verdict.entries ?? 0;
  const audit = await api.get(api.path("/api/audit", {}, { since: Math.max(0, end - 50), limit: 50 }));
  Object.assign(operator, {
    accounts: accounts.accounts, tokens: tokens.join_tokens, verdict, audit: audit.entries,
    refused: [...operator.refused, ...refused.events].slice(-50),
  });
  if (refused.events.length === 1000) readOperator(); // more of them
}, 1000);

export async function readSchema() {
  state.schema ??= await act(() => api.get("/api/config/schema"));
  changed();
}

/** Looks at a run, or at none. */
export function look(id) {
  if (state.run?.id === id) return;
  state.run = id ? { id, session: null, analytics: null, steps: [], events: null, told: [], stale: true, missing: null } : null;
  state.hover = null;
  if (id) readRun();
}

// ---- events

function told({ id, event: kind, data }) {
  const event = { ...data, kind: data.kind ?? kind, id: data.id ?? Number(id) };
  if (kind === "node.heartbeat") {
    const node = state.nodes.find((one) => one.id === event.node);
    if (node) Object.assign(node, { last_heartbeat: event.time, status: "online" }, event.detail?.busy === undefined ? {} : { busy: event.detail.busy });
    return changed();
  }
  if (state.recent.some((one) => one.id === event.id)) return;
  if (kind !== "round") state.recent = [event, ...state.recent].slice(0, 100);
  const here = state.run && event.run === state.run.id;
  if (kind === "round") {
    const session = state.sessions.find((one) => one.session_id === event.run);
    if (session && typeof event.detail?.round === "number") session.current_round = event.detail.round;
    const replied = Object.keys(event.detail?.participants ?? {});
    for (const node of state.nodes) if (replied.includes(node.id)) Object.assign(node, { last_heartbeat: event.time, status: "online" });
    if (here && !document.hidden) readRun();
  } else {
    if (kind.startsWith("node.")) readNodes();
    if (kind.startsWith("study.") || ["run.created", "run.state"].includes(kind)) readStudies(); // and what is spent
    if (kind.startsWith("run.") || ["consent", "model", "proposal.sent"].includes(kind)) readSessions();
    if (here) {
      state.run.stale = true;
      if (state.run.events) state.run.events = [...state.run.events, event].slice(-500);
      else state.run.told.push(event); // while those before it are read
      readRun();
    }
    if (is("operator")) readOperator();
  }
  changed();
}

let stop = () => {};
let beat = 0;

function connected(now) {
  if (now === "refused") return signOut("The coordinator no longer accepts this token.");
  state.connection = now;
  if (now === "live") readAll(); // what changed before the stream began it does not tell, nor presence
  return changed();
}

function readAll() {
  readNodes();
  readSessions();
  readStudies();
  if (state.run) { state.run.stale = true; readRun(); }
  if (is("operator")) readOperator();
}

export async function signIn(token = null) {
  if (token !== null) api.useToken(token);
  Object.assign(state, { phase: "loading", problem: null });
  changed();
  try {
    const answer = await api.get("/api/me");
    Object.assign(state, { me: answer.account, coordinator: answer.coordinator ?? {}, phase: "ready", connection: "connecting" });
  } catch (error) {
    const wrong = error instanceof api.Refused && error.status === 401;
    if (wrong) api.useToken("");
    state.problem = wrong ? "The coordinator does not know this token." : error instanceof api.Refused ? error.message : "The coordinator did not answer. Is it running?";
    state.phase = "signed-out";
    return changed();
  }
  stop();
  stop = api.follow("/api/events/stream", told, connected);
  readAll();
  clearInterval(beat);
  beat = setInterval(() => { if (!document.hidden) readNodes(); }, 1000 * Math.max(2, state.coordinator.heartbeat_interval_s ?? 10));
  return changed();
}

/** After a login at the provider: the session's token for a code of one use. */
export async function comeBack(code) {
  Object.assign(state, { phase: "loading", problem: null });
  changed();
  try {
    await signIn(await api.redeem(code));
  } catch (error) {
    state.problem = error instanceof api.Refused ? error.message : "The coordinator did not answer. Is it running?";
    state.phase = "signed-out";
    changed();
  }
}

/** How one can log in here, beside with a token. */
export async function lookForWays() {
  try {
    state.ways = await api.loginWays();
    changed();
  } catch { /* then with a token */ }
}

/** Signs out, and ends the session at the coordinator. */
export function leave() {
  api.endSession().catch(() => { /* then it ends by itself */ });
  signOut();
}

export function signOut(problem = null) {
  stop();
  clearInterval(beat);
  api.useToken("");
  Object.assign(state, { phase: "signed-out", problem, me: null, nodes: [], sessions: [], studies: [], read: false, run: null, recent: [], form: {}, file: {}, schema: null, notice: null });
  state.details.clear();
  state.columns.clear();
  state.operator = noOperator();
  changed();
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && state.phase === "ready") readAll(); });
