// The page: an approximation of Slack, good enough to work in, for Refine's demo and its browser tests.
import { drawBlocks, problemLine } from "./blocks.js";
import { appHead, avatar, drawChannel, drawThread, settleFeeds } from "./channel.js";
import { drawConfirm } from "./dialog.js";
import { h, patch } from "./dom.js";
import { icon } from "./icons.js";
import { menu } from "./menu.js";
import { drawModal } from "./modal.js";
import {
  changed,
  channels,
  directMessages,
  ephemerals,
  go,
  home,
  isReply,
  lastRead,
  local,
  me,
  messages,
  name,
  onChange,
  page,
  people,
  place,
  press,
  start,
  store,
  stored,
  user,
} from "./state.js";

const KINDS = {
  approver: "may approve",
  requester: "may ask, but not approve",
  guest: "in the approvers' group, but a guest",
  stranger: "from another workspace",
  deactivated: "in the approvers' group, but left",
  bot: "another app",
};

// -------------------- the frame

function draw() {
  const app = document.getElementById("app");
  const trail = focusTrail();
  patch(app, page.server ? frame() : opening());
  restoreFocus(trail);
  settleFeeds();
  enterHome();
}

function opening() {
  if (!page.failure) return h("main", { class: "opening" }, h("p", {}, "Opening the local Slack…"));
  return h(
    "main",
    { class: "opening", role: "alert" },
    h("p", {}, `There is nothing to show: ${page.failure}.`),
    h("p", {}, "Is the demo still running? This page tries again by itself."),
  );
}

function frame() {
  const where = place();
  const channel = page.server.channels.find((c) => c.id === where);
  const thread = channel && drawThread(channel);
  return h(
    "div",
    { class: `frame${thread ? " has-thread" : ""}${page.drawer ? " has-drawer" : ""}` },
    topbar(),
    connection(),
    h(
      "div",
      { class: "columns" },
      sidebar(where),
      page.drawer && h("div", { class: "scrim", onclick: closeDrawer }),
      h(
        "main",
        {},
        welcome(),
        h("div", { class: "panes" }, h("div", { class: "pane" }, channel ? drawChannel(channel) : drawHome()), thread),
      ),
    ),
    drawModal(),
    drawConfirm(),
    h("div", { class: "unseen", role: "status", "aria-live": "polite" }, page.said),
  );
}

function connection() {
  if (page.link === "lost")
    return warning("reconnecting", "Connection lost. Reconnecting… (is the demo still running?)");
  if (page.server.connected === false)
    return warning("no-bot", "Refine is not connected: until it is, nothing here reaches it.");
  return null;
}

const warning = (id, text) =>
  h("div", { class: "lost", key: id, role: "status", "data-testid": id }, h("span", { class: "spinner" }), text);

function closeDrawer() {
  page.drawer = false;
  changed();
}

// -------------------- the top bar: what this is, and who you are

function topbar() {
  const toggle = () => {
    page.drawer = !page.drawer;
    changed();
  };
  return h(
    "header",
    { class: "topbar" },
    h(
      "button",
      {
        type: "button",
        class: "icon-button drawer-button",
        "aria-label": "Channels",
        "aria-expanded": Boolean(page.drawer),
        onclick: toggle,
      },
      icon("menu", 20),
      unreadAnywhere() && h("span", { class: "dot" }),
    ),
    h(
      "div",
      { class: "demo-note" },
      h("span", { class: "demo-badge" }, "Demo"),
      h("span", {}, "A local approximation of Slack"),
    ),
    userSwitch(),
    h(
      "button",
      {
        type: "button",
        class: "icon-button help-button",
        "aria-label": "How to use the demo",
        title: "How to use the demo",
        onclick: () => showWelcome(true),
      },
      icon("help", 20),
    ),
  );
}

function userSwitch() {
  const current = user(me());
  const row = (person) => ({
    label: person.real_name,
    content: [
      avatar(person.id, "small"),
      h(
        "span",
        { class: "person" },
        h("strong", {}, person.real_name),
        h("span", { class: "menu-note" }, KINDS[person.kind] ?? person.title),
      ),
      kindBadge(person.kind),
    ],
    class: "person-item",
    "data-testid": "user-option",
    "data-user": person.id,
    "aria-current": person.id === me(),
    act: () => go({ as: person.id }),
  });
  return menu({
    id: "users",
    wide: true,
    button: {
      label: `You are ${name(me())}. Change who you are`,
      class: "user-switch",
      "data-testid": "user-switch",
      "data-user": me(),
      content: [
        h("span", { class: "you-are" }, "You are"),
        avatar(me(), "small"),
        h("strong", {}, name(me())),
        kindBadge(current?.kind),
        icon("chevron", 14),
      ],
    },
    items: [{ label: "Who are you in this demo?" }, ...people().map(row)],
  });
}

const kindBadge = (kind) => kind && h("span", { class: `kind kind-${kind}` }, kind);

// -------------------- the sidebar

function sidebar(where) {
  return h(
    "nav",
    { class: "sidebar", "aria-label": "Workspace" },
    h(
      "div",
      { class: "workspace" },
      h("span", { class: "workspace-sign", "aria-hidden": "true" }, page.server.team.name[0]),
      h("strong", {}, page.server.team.name),
    ),
    h("h2", {}, "Channels"),
    channels().map((channel) => link(channel.id, where, icon("hash", 16), channel.name, unread(channel.id))),
    h("h2", {}, "Apps"),
    appLink(where),
    h(
      "p",
      { class: "sidebar-note" },
      "This page imitates Slack so that the demo needs no workspace. In Slack itself the same bot looks a little different.",
    ),
  );
}

/** The app: its home, and its direct messages once there are any. */
function appLink(where) {
  const direct = directMessages();
  const news = direct ? unread(direct.id) : 0;
  const sign = h("img", { class: "avatar tiny", src: "/page/refine.svg", alt: "" });
  const shown = where === direct?.id ? "home" : where;
  return link("home", shown, sign, page.server.bot.name, news);
}

function link(target, where, sign, label, news) {
  const open = () => {
    page.drawer = false;
    go({ in: target });
  };
  return h(
    "button",
    {
      type: "button",
      class: `side-link${news ? " is-unread" : ""}`,
      key: target,
      "aria-current": target === where ? "page" : null,
      "data-testid": target === "home" ? "home-link" : "channel-link",
      "data-channel": target,
      onclick: open,
    },
    sign,
    h("span", { class: "side-name" }, label),
    news > 0 && h("span", { class: "count", "aria-label": `${news} unread` }, news > 99 ? "99+" : news),
  );
}

function unread(channel) {
  if (channel === place()) return 0;
  const since = Number(lastRead(channel) ?? 0);
  const posts = messages(channel).filter((m) => !isReply(m) || m.broadcast);
  const notes = ephemerals().filter((e) => e.channel === channel && !e.thread_ts);
  return [...posts, ...notes].filter((m) => Number(m.ts) > since && m.user !== me()).length;
}

const unreadAnywhere = () => page.server.channels.some((channel) => unread(channel.id) > 0);

// -------------------- App Home

let homeOpenedFor = "";

/** Slack tells the app when somebody opens its home; so does this page, once for each person and visit. */
function enterHome() {
  if (!page.server) return;
  const visit = place() === "home" ? me() : "";
  if (visit === homeOpenedFor) return;
  homeOpenedFor = visit;
  if (visit) press("home", "home", { do: "open_home" });
}

function drawHome() {
  const view = home();
  return h(
    "section",
    { class: "channel", key: "home", "aria-label": "App Home", "data-testid": "home" },
    appHead("home"),
    problemLine("home"),
    h(
      "div",
      { class: "home", tabindex: "0", role: "region", "aria-label": "Home" },
      view
        ? h(
            "div",
            { class: "blocks home-blocks", key: me() },
            drawBlocks({ id: `home:${me()}`, blocks: view.blocks, act: { do: "click_home" } }),
          )
        : h("p", { class: "empty" }, "Refine has shown nothing here yet."),
    ),
  );
}

// -------------------- the first visit

const WELCOME = "refine.welcomed";
const STEPS = [
  ["Read a card", "Each is an IAM role that outsiders can assume. On ApplicationRole, press Review last accessed."],
  ["Open its thread", "See what the role really used, then propose a trimmed policy and read the diff."],
  ["Be somebody else", "Switch who you are at the top: whoever proposed a change may not approve it. Ben can."],
  ["Approve, then undo", "Watch it being applied and verified, and roll it back to the byte."],
];

function showWelcome(on) {
  local("welcome", { on: false }).on = on;
  store(WELCOME, on ? "" : "yes");
  changed();
}

function welcome() {
  if (!local("welcome", { on: !stored(WELCOME) }).on) return null;
  return h(
    "section",
    { class: "welcome", key: "welcome", "aria-label": "How to use the demo", "data-testid": "welcome" },
    h(
      "div",
      { class: "welcome-head" },
      h("strong", {}, "Trim a role in four steps"),
      h(
        "button",
        {
          type: "button",
          class: "icon-button",
          "aria-label": "Dismiss the steps",
          title: "Dismiss",
          "data-testid": "welcome-dismiss",
          onclick: () => showWelcome(false),
        },
        icon("close", 16),
      ),
    ),
    h(
      "ol",
      { class: "steps" },
      STEPS.map(([title, text]) => h("li", {}, h("strong", {}, title), h("span", {}, text))),
    ),
  );
}

// -------------------- focus

/** The focused element and what is around it that could take the focus over. */
function focusTrail() {
  const trail = [];
  for (let node = document.activeElement; node && node !== document.body; node = node.parentElement) {
    if (!trail.length || node.hasAttribute("tabindex")) trail.push(node);
  }
  return trail;
}

/** A button that a redraw took away leaves the focus to the message around it, not to the start of the page. */
function restoreFocus(trail) {
  if (!trail.length || trail[0].isConnected) return;
  const active = document.activeElement;
  if (active && active !== document.body) return;
  trail.find((node) => node.isConnected)?.focus({ preventScroll: true });
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && page.drawer) closeDrawer();
});
addEventListener("visibilitychange", changed);
onChange(draw);
start();
