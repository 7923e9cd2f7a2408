// A channel's messages, a thread beside it, and what only this person can see among them.
import { drawBlocks, problemLine } from "./blocks.js";
import { composer } from "./composer.js";
import { h } from "./dom.js";
import { drawFiles } from "./files.js";
import { icon } from "./icons.js";
import { menu } from "./menu.js";
import {
  byTime,
  changed,
  directMessages,
  dismiss,
  ephemerals,
  go,
  isRefine,
  isReply,
  lastRead,
  local,
  markRead,
  me,
  messages,
  name,
  page,
  press,
  say,
  user,
} from "./state.js";
import { clock, dayAndTime, dayName, fullTime, moment, mrkdwn } from "./text.js";

const TOGETHER = 5 * 60; // seconds within which a person's plain messages stand under one name

// -------------------- people

/** A square with the person's initials; Refine has its sign. */
export function avatar(id, size = "") {
  if (isRefine(id)) return h("img", { class: `avatar ${size}`, src: "/page/refine.svg", alt: "" });
  const initials = name(id)
    .split(/\s+/)
    .slice(0, 2)
    .map((word) => word[0])
    .join("");
  const hue = [...id].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 8, 0);
  return h("span", { class: `avatar ${size} hue-${hue}`, "aria-hidden": "true" }, initials.toUpperCase());
}

const isApp = (message) => isRefine(message.user) || Boolean(message.bot_id) || user(message.user)?.kind === "bot";

// -------------------- the channel

export function drawChannel(channel) {
  const top = [
    ...messages(channel.id).filter((m) => !isReply(m) || m.broadcast),
    ...ephemerals().filter((e) => e.channel === channel.id && !e.thread_ts),
  ].toSorted(byTime);
  return h(
    "section",
    {
      class: "channel",
      key: channel.id,
      "aria-label": `Channel ${channel.name}`,
      "data-testid": "channel",
      "data-channel": channel.id,
    },
    channel.is_im
      ? appHead("messages")
      : h(
          "header",
          { class: "pane-head" },
          h("h1", {}, icon("hash", 18), channel.name),
          channel.topic && h("p", { class: "topic", title: channel.topic }, channel.topic),
        ),
    feed(channel.id, [beginning(channel), ...dayByDay(top, channel.id)], top, "0"),
    composer({
      channel: channel.id,
      hint: `Message ${called(channel)} as ${name(me()).split(" ")[0]}, or type /refine`,
      sent: () => seeEnd(channel.id),
    }),
  );
}

const called = (channel) => (channel.is_im ? channel.name : `#${channel.name}`);

/** The head of the app's own two pages, its home and its direct messages. */
export function appHead(current) {
  const tab = (id, label, target) =>
    h(
      "button",
      {
        type: "button",
        class: "tab",
        "aria-current": id === current ? "page" : null,
        onclick: () => go({ in: target }),
      },
      label,
    );
  const direct = directMessages();
  return h(
    "header",
    { class: "pane-head" },
    h("h1", {}, h("img", { class: "avatar tiny", src: "/page/refine.svg", alt: "" }), page.server.bot.name),
    h("span", { class: "app-badge" }, "App"),
    h(
      "nav",
      { class: "tabs", "aria-label": "App" },
      tab("home", "Home", "home"),
      direct && tab("messages", "Messages", direct.id),
    ),
  );
}

function beginning(channel) {
  const what = channel.is_im ? "Between you and Refine alone." : "begins here. Refine's cards and answers come live.";
  return h("div", { class: "beginning", key: "beginning" }, h("strong", {}, called(channel)), ` ${what}`);
}

/** Messages with a line between days and one above what is new since this person last looked. */
function dayByDay(list, channelId) {
  const out = [];
  const newSince = feedState(channelId).newSince;
  let day = "";
  let last = null;
  let marked = newSince === undefined;
  for (const message of list) {
    const today = dayName(moment(message.ts));
    if (today !== day) {
      out.push(h("div", { class: "day-line", key: `day:${today}`, role: "separator" }, h("span", {}, today)));
      last = null;
    }
    if (!marked && Number(message.ts) > Number(newSince) && message.user !== me()) {
      out.push(h("div", { class: "new-line", key: "new", role: "separator" }, h("span", {}, "New")));
      marked = true;
      last = null;
    }
    out.push(drawMessage(message, { channel: channelId, under: last }));
    [day, last] = [today, message];
  }
  return out;
}

/**
 * A list that begins at what this person has not read, stays at its end while they are there, and says so when
 * something comes in while they are not. `where` is the channel or thread; `unreadFrom` is where it is unread from for
 * those who never looked.
 */
function feed(where, rows, list, unreadFrom) {
  const my = feedState(where);
  if (my.atEnd) my.seen = list.length;
  const fresh = list.length - my.seen;
  const latest = list.at(-1)?.ts ?? unreadFrom;
  const begin = () => {
    const read = lastRead(where);
    Object.assign(my, { atEnd: true, seen: list.length, readTo: read ?? unreadFrom, newSince: read });
    changed(); // once more, with the line above what is new
  };
  return h(
    "div",
    { class: "feed-box", key: where },
    h(
      "div",
      {
        class: "feed",
        tabindex: "0",
        role: "log",
        "aria-label": "Messages",
        "data-where": where,
        "data-latest": latest,
        mount: begin,
        onscroll: (event) => followScroll(event.currentTarget, my),
      },
      h("div", { class: "feed-rows" }, rows),
    ),
    !my.atEnd && fresh > 0 && jump(fresh, my),
  );
}

function jump(fresh, my) {
  const toWhatIsNew = () => {
    my.atEnd = true; // the redraw scrolls as far as there is something to read
    changed();
  };
  const text = `${fresh} new ${fresh > 1 ? "messages" : "message"}`;
  return h(
    "button",
    { type: "button", class: "jump", "data-testid": "jump", onclick: toWhatIsNew },
    text,
    icon("chevron", 14),
  );
}

const feedState = (where) => local(`feed:${where}`, { atEnd: true, seen: 0, readTo: "0", newSince: undefined });

/** Whoever writes something wants to see it, wherever they had scrolled to. */
function seeEnd(where) {
  Object.assign(feedState(where), { atEnd: true, readTo: "Infinity" });
}

const END = 60; // pixels from the end that still count as being there
const HEAD = 44; // pixels kept free above what is new, for the line that says so

const isAtEnd = (node) => node.scrollHeight - node.scrollTop - node.clientHeight < END;

function toEnd(node) {
  node.scrollTop = node.scrollHeight;
}

function followScroll(node, my) {
  const atEnd = isAtEnd(node);
  if (atEnd === my.atEnd) return;
  Object.assign(my, { atEnd, readTo: node.dataset.latest });
  changed();
}

/** After a redraw: keep each list that was at its end there, and mark what is on show as read. */
export function settleFeeds() {
  for (const node of document.querySelectorAll(".feed")) {
    const { where, latest } = node.dataset;
    if (feedState(where).atEnd) follow(node, feedState(where));
    if (document.visibilityState === "visible") markRead(where, latest);
  }
}

/** Scroll to the end, but not past the head of what just came: a long message is read from its beginning. */
function follow(node, my) {
  const rows = [...node.querySelectorAll("[data-ts]")];
  const fresh = rows.find((row) => Number(row.dataset.ts) > Number(my.readTo));
  my.readTo = node.dataset.latest;
  toEnd(node);
  if (fresh) node.scrollTop = Math.min(node.scrollTop, fresh === rows[0] ? 0 : fresh.offsetTop - HEAD);
  my.atEnd = isAtEnd(node);
}

// -------------------- a message

function drawMessage(message, { channel, under = null, inThread = false }) {
  if (message.ephemeral) return drawEphemeral(message, channel);
  const root = isReply(message) && !inThread ? messages(channel).find((m) => m.ts === message.thread_ts) : null;
  const plainRow = !message.blocks?.length && !message.files?.length;
  const compact =
    plainRow &&
    under &&
    !under.ephemeral &&
    !under.blocks?.length &&
    under.user === message.user &&
    !root &&
    Number(message.ts) - Number(under.ts) < TOGETHER;
  const surface = {
    id: `message:${channel}/${message.ts}`,
    blocks: message.blocks,
    act: { do: "click", channel, ts: message.ts },
  };
  return h(
    "article",
    {
      class: `message${compact ? " message-compact" : ""}${isApp(message) ? " message-app" : ""}`,
      key: message.ts,
      tabindex: "-1",
      "data-testid": "message",
      "data-ts": message.ts,
      "aria-label": `${message.username || name(message.user)}, ${dayAndTime(moment(message.ts))}`,
    },
    h("div", { class: "gutter" }, compact ? timeOf(message, "gutter-time") : avatar(message.user)),
    h(
      "div",
      { class: "message-body" },
      !compact && byline(message),
      root &&
        h(
          "button",
          { type: "button", class: "broadcast-from", onclick: () => go({ in: channel, thread: root.ts }) },
          "replied to a thread: ",
          h("span", {}, excerpt(root)),
        ),
      content(message, surface),
      drawFiles(message.files),
      problemLine(surface.id),
      !inThread && !isReply(message) && replyLine(message, channel),
    ),
    toolbar(message, channel, inThread, surface),
  );
}

function byline(message) {
  return h(
    "div",
    { class: "byline" },
    h("strong", { class: "author" }, message.username || name(message.user)),
    isApp(message) && h("span", { class: "app-badge" }, "App"),
    timeOf(message, "time"),
  );
}

function timeOf(message, style) {
  const date = moment(message.ts);
  return h("time", { class: style, datetime: date.toISOString(), title: fullTime(date) }, clock(date));
}

function content(message, surface) {
  const my = local(`fallback:${surface.id}`, { open: false });
  return [
    message.blocks?.length
      ? h("div", { class: "blocks" }, drawBlocks(surface))
      : h(
          "div",
          { class: "text" },
          mrkdwn(message.text ?? ""),
          message.edited && h("span", { class: "edited" }, " (edited)"),
        ),
    (message.attachments ?? []).map((attachment, i) =>
      drawAttachment(attachment, `${surface.id}/attachment.${i}`, surface),
    ),
    my.open &&
      h(
        "div",
        { class: "fallback" },
        h("strong", {}, "Notification and screen reader text"),
        h("div", { class: "text" }, mrkdwn(message.text ?? "")),
      ),
  ];
}

/** An attachment is blocks with a coloured edge; the colour is an SVG's, since the page's policy allows no styles. */
function drawAttachment(attachment, id, surface) {
  const colours = { good: "#2eb67d", warning: "#ecb22e", danger: "#e01e5a" };
  const colour = colours[attachment.color] ?? (attachment.color ? `#${attachment.color.replace("#", "")}` : "#bbb");
  return h(
    "div",
    { class: "attachment" },
    h(
      "svg",
      { class: "attachment-edge", "aria-hidden": "true" },
      h("rect", { width: "100%", height: "100%", rx: 2, fill: colour }),
    ),
    h(
      "div",
      { class: "blocks" },
      attachment.blocks
        ? drawBlocks({ ...surface, id, blocks: attachment.blocks })
        : h("div", { class: "text" }, mrkdwn(attachment.text ?? attachment.fallback ?? "")),
    ),
  );
}

function excerpt(message) {
  const text = (message.text ?? "").replace(/<[^>|]*\|([^>]*)>/g, "$1").replace(/[*`]/g, "");
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}

function drawEphemeral(note, channel) {
  const surface = {
    id: `ephemeral:${note.id}`,
    blocks: note.blocks,
    act: { do: "click_ephemeral", id: note.id, channel },
  };
  return h(
    "article",
    {
      class: "message message-ephemeral message-app",
      key: note.id,
      tabindex: "-1",
      "data-testid": "ephemeral",
      "data-ts": note.ts,
      "aria-label": "Refine, only visible to you",
    },
    h("div", { class: "gutter" }, avatar(page.server.bot.user_id)),
    h(
      "div",
      { class: "message-body" },
      h("div", { class: "only-you" }, icon("eye", 14), "Only visible to you"),
      byline({ ...note, user: page.server.bot.user_id }),
      content(note, surface),
      problemLine(surface.id),
      h("button", { type: "button", class: "dismiss link", onclick: () => dismiss(note.id) }, "Dismiss message"),
    ),
  );
}

function toolbar(message, channel, inThread, surface) {
  const my = local(`fallback:${surface.id}`, { open: false });
  const showText = () => {
    my.open = !my.open;
    changed();
  };
  const shortcut = ({ callback_id, name: label }) => ({
    label,
    note: "Refine",
    act: () => press(surface.id, surface.id, { do: "message_shortcut", callback_id, channel, ts: message.ts }),
    "data-callback-id": callback_id,
  });
  const items = [
    ...page.server.shortcuts.filter((s) => s.type === "message").map(shortcut),
    message.blocks?.length && {
      label: my.open ? "Hide the notification text" : "Show the notification text",
      act: showText,
    },
    { label: "Copy the message's JSON", act: () => copy(message) },
  ].filter(Boolean);
  return h(
    "div",
    { class: "toolbar" },
    !inThread &&
      h(
        "button",
        {
          type: "button",
          class: "icon-button",
          "aria-label": "Reply in thread",
          title: "Reply in thread",
          onclick: () => go({ in: channel, thread: message.thread_ts ?? message.ts }),
        },
        icon("reply"),
      ),
    menu({
      id: `menu:${surface.id}:${inThread}`,
      button: {
        label: "More actions on this message",
        class: "icon-button",
        content: icon("more"),
        "data-testid": "message-menu",
      },
      items,
    }),
  );
}

async function copy(message) {
  try {
    await navigator.clipboard.writeText(JSON.stringify(message, null, 2));
    say("Copied.");
  } catch {
    say("The browser did not allow copying.");
  }
}

// -------------------- threads

const repliesTo = (channel, ts) =>
  messages(channel)
    .filter((m) => isReply(m) && m.thread_ts === ts)
    .toSorted(byTime);
const notesIn = (channel, ts) => ephemerals().filter((e) => e.channel === channel && e.thread_ts === ts);

function replyLine(message, channel) {
  const replies = repliesTo(channel, message.ts);
  const notes = notesIn(channel, message.ts);
  if (!replies.length && !notes.length) return null;
  const people = [...new Set(replies.map((r) => r.user))].slice(0, 4);
  const all = [...replies, ...notes];
  const latest = all.toSorted(byTime).at(-1);
  const fresh =
    page.route.thread !== message.ts &&
    Number(latest.ts) > Number(lastRead(`thread:${message.ts}`) ?? 0) &&
    latest.user !== me();
  return h(
    "button",
    {
      type: "button",
      class: `reply-line${fresh ? " is-new" : ""}`,
      "data-testid": "reply-line",
      onclick: () => go({ in: channel, thread: message.ts }),
    },
    h(
      "span",
      { class: "reply-faces" },
      people.map((id) => avatar(id, "small")),
    ),
    replies.length > 0 && h("strong", {}, `${replies.length} ${replies.length === 1 ? "reply" : "replies"}`),
    notes.length > 0 && h("strong", { class: "reply-notes" }, `${notes.length} only visible to you`),
    h("span", { class: "reply-when" }, `Last ${dayAndTime(moment(latest.ts))}`),
    fresh && h("span", { class: "new-badge" }, "New"),
  );
}

/** The thread panel; null where the address names no thread of this channel. */
export function drawThread(channel) {
  const ts = page.route.thread;
  const root = messages(channel.id).find((m) => m.ts === ts);
  if (!root) return null;
  const replies = repliesTo(channel.id, ts);
  const all = [...replies, ...notesIn(channel.id, ts)].toSorted(byTime);
  const leave = () => go({ in: channel.id, thread: "" });
  let last = null;
  const rows = [
    drawMessage(root, { channel: channel.id, inThread: true }),
    all.length > 0 &&
      h(
        "div",
        { class: "thread-count", key: "count" },
        h("span", {}, replies.length === 1 ? "1 reply" : `${replies.length} replies`),
      ),
    ...all.map((message) => {
      const row = drawMessage(message, { channel: channel.id, under: last, inThread: true });
      last = message;
      return row;
    }),
  ];
  return h(
    "aside",
    {
      class: "thread",
      key: `thread:${ts}`,
      "aria-label": "Thread",
      "data-testid": "thread",
      "data-ts": ts,
      onkeydown: (event) => event.key === "Escape" && !event.defaultPrevented && leave(),
      mount: (node) => node.querySelector("h2").focus({ preventScroll: true }),
      unmount: (node) => node.contains(document.activeElement) && focusReplies(ts),
    },
    h(
      "header",
      { class: "pane-head" },
      h(
        "button",
        { type: "button", class: "icon-button thread-back", "aria-label": "Back to the channel", onclick: leave },
        icon("back"),
      ),
      h("h2", { tabindex: "-1" }, "Thread"),
      h("p", { class: "topic" }, called(channel)),
      h(
        "button",
        {
          type: "button",
          class: "icon-button thread-close",
          "aria-label": "Close the thread",
          title: "Close the thread",
          onclick: leave,
        },
        icon("close"),
      ),
    ),
    feed(`thread:${ts}`, rows, all, ts),
    composer({ channel: channel.id, thread: ts, hint: `Reply as ${name(me())}`, sent: () => seeEnd(`thread:${ts}`) }),
  );
}

/** The focus goes back to where the thread was opened. */
function focusReplies(ts) {
  document.querySelector(`.channel [data-ts="${ts}"] .reply-line`)?.focus({ preventScroll: true });
}
