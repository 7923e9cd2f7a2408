// What the page knows: the server's state (fetched anew after every change), where the person is (the address's hash),
// and what is only on this page (open menus, half-written text, buttons that wait). Everything else draws from here.

const FIRST_PERSON = "U0ANN";

export const page = {
  server: null, // the last answer of /_sandbox/state
  seenAs: null, // the person it was fetched for: ephemerals, views and home are theirs alone
  link: "connecting", // "live" while the event stream is open, "lost" while it is not
  failure: "", // why there is no state at all
  route: readRoute(),
  menu: null, // the one open menu
  confirm: null, // the open confirm dialog
  said: "", // the last thing to tell a screen reader
};

// -------------------- redrawing

let redraw = () => {};
let asked = false;

export function onChange(draw) {
  redraw = draw;
}

/** Ask for a redraw; it comes before the next event, so that no handler sees what an older one was drawn with. */
export function changed() {
  if (asked) return;
  asked = true;
  queueMicrotask(() => {
    asked = false;
    redraw();
  });
}

const locals = new Map();

/** State of one widget that must survive redraws, found by a key that names the widget. */
export function local(key, initial) {
  if (!locals.has(key)) locals.set(key, initial);
  return locals.get(key);
}

export function forget(prefix) {
  for (const key of [...locals.keys()]) if (key.startsWith(prefix)) locals.delete(key);
}

// -------------------- where the person is

function readRoute() {
  const hash = new URLSearchParams(location.hash.slice(1));
  return {
    as: hash.get("as") ?? stored("refine.as") ?? FIRST_PERSON,
    in: hash.get("in") ?? "",
    thread: hash.get("thread") ?? "",
  };
}

/** Go somewhere: any of `as` (who you are), `in` (a channel or "home") and `thread` (the root's ts, "" for none). */
export function go(changes) {
  const route = { ...page.route, ...changes };
  if (changes.in !== undefined && changes.thread === undefined) route.thread = "";
  const hash = new URLSearchParams({ as: route.as });
  if (route.in) hash.set("in", route.in);
  if (route.thread) hash.set("thread", route.thread);
  location.hash = hash.toString();
}

function followHash() {
  const before = page.route.as;
  page.route = readRoute();
  page.menu = null;
  store("refine.as", page.route.as);
  if (page.route.as !== before) {
    say(`You are now ${name(page.route.as)}.`);
    refresh();
  }
  changed();
}

export const channels = () => page.server.channels.filter((c) => !c.is_im);
export const directMessages = () => page.server.channels.find((c) => c.is_im);

/** The channel on show, or "home"; the first channel where the address names none. */
export function place() {
  const { in: asked } = page.route;
  if (asked === "home" || page.server.channels.some((c) => c.id === asked)) return asked;
  return channels()[0]?.id ?? "home";
}

// -------------------- people

export const me = () => page.route.as;
export const user = (id) => page.server?.users.find((u) => u.id === id);
export const people = () => page.server.users.filter((u) => !isRefine(u.id));
export const isRefine = (id) => id === page.server?.bot.user_id;

/** The name to show for a user id; an id that nobody has stays as it is. */
export const name = (id) => user(id)?.real_name ?? id;

export function groupHas(groupId, userId) {
  const group = page.server.groups.find((g) => g.id === groupId);
  return Boolean(group?.users.includes(userId));
}

// -------------------- what this person sees

const mine = () => page.seenAs === me();
const dismissed = new Set();
export const ephemerals = () =>
  mine() ? page.server.ephemerals.filter((e) => !dismissed.has(e.id)).map((e) => ({ ...e, ephemeral: true })) : [];
export const views = () => (mine() ? (page.server.views ?? []) : []);
export const home = () => (mine() ? page.server.home : null);
export const messages = (channel) => page.server.messages[channel] ?? [];
export const isReply = (m) => Boolean(m.thread_ts) && m.thread_ts !== m.ts;
export const byTime = (a, b) => Number(a.ts) - Number(b.ts);

/** Take an ephemeral message away, here at once and then on the server. */
export function dismiss(id) {
  dismissed.add(id);
  changed();
  act({ do: "dismiss", id });
}

// -------------------- read marks, kept per person in this browser

function marks() {
  try {
    return JSON.parse(stored("refine.read") ?? "{}");
  } catch {
    return {};
  }
}

/** The ts up to which this person has read a channel or thread; undefined where they never looked. */
export const lastRead = (where) => marks()[`${me()}/${where}`];

export function markRead(where, ts) {
  const all = marks();
  const key = `${me()}/${where}`;
  if (Number(all[key] ?? 0) >= Number(ts)) return;
  all[key] = ts;
  store("refine.read", JSON.stringify(all));
}

/** Read from the browser's storage, which a private window may refuse. */
export function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function store(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Without storage the page forgets on reload, and works.
  }
}

export function say(sentence) {
  page.said = sentence;
  changed();
}

// -------------------- the server

let fetching = false;
let fetchAgain = false;

/** Fetch the state; a call during a fetch makes one more fetch after it, so that the last change is never missed. */
export async function refresh() {
  if (fetching) {
    fetchAgain = true;
    return;
  }
  fetching = true;
  try {
    do {
      fetchAgain = false;
      const as = me();
      const answer = await fetch(`/_sandbox/state?user=${encodeURIComponent(as)}`);
      if (!answer.ok) throw new Error(`the local Slack answered with status ${answer.status}`);
      page.server = await answer.json();
      page.seenAs = as;
      page.failure = "";
      if (!user(as)) go({ as: FIRST_PERSON }); // an address from another day
    } while (fetchAgain);
  } catch (error) {
    if (!page.server) page.failure = error.message;
  } finally {
    fetching = false;
    changed();
  }
}

/** Open the event stream and keep it open; every event, and every new connection, fetches the state. */
function listen() {
  const events = new EventSource("/_sandbox/events");
  events.onopen = () => {
    page.link = "live";
    refresh();
  };
  events.onmessage = () => refresh();
  events.onerror = () => {
    page.link = "lost";
    changed();
    // The browser reconnects by itself after a drop, but gives up after an answer that is not a stream.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 1000);
  };
}

export function start() {
  addEventListener("hashchange", followHash);
  refresh();
  listen();
}

/** Send one act of this person; the answer is {"ok", "error"?, "ack"?, "options"?}, also where nothing answers. */
export async function act(body) {
  try {
    const answer = await fetch("/_sandbox/act", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ user: me(), ...body }),
    });
    const result = await answer.json();
    return result.ok || result.error ? result : { ...result, error: `The local Slack refused it (${answer.status}).` };
  } catch {
    return { ok: false, error: "The local Slack cannot be reached. Is the demo still running?" };
  }
}

const waiting = new Set();
const problems = new Map();

export const isWaiting = (where) => waiting.has(where);
export const problem = (where) => problems.get(where);

export function tell(where, sentence) {
  if (sentence) problems.set(where, sentence);
  else problems.delete(where);
  changed();
}

/** Act, with `where` busy until it is acknowledged and a refusal shown at `near` until it is dismissed or tried again. */
export async function press(where, near, body) {
  if (waiting.has(where)) return { ok: false };
  waiting.add(where);
  tell(near, "");
  const answer = await act(body);
  waiting.delete(where);
  if (!answer.ok) tell(near, answer.error);
  changed();
  return answer;
}
