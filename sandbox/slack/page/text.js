// Slack's text: mrkdwn, plain text, mentions, links and dates. Everything becomes text nodes, so nothing that a message
// says can become markup; and what Slack would take for a mention of everybody is shown so that nobody overlooks it.
import { h } from "./dom.js";
import { withEmoji } from "./emoji.js";
import { go, groupHas, me, name, page } from "./state.js";

// -------------------- time

const TIME = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const SECONDS = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", second: "2-digit" });
const english = (options) => new Intl.DateTimeFormat("en-US", options);
const SHORT = english({ month: "short", day: "numeric", year: "numeric" });
const LONG = english({ month: "long", day: "numeric", year: "numeric" });
const LONGEST = english({ weekday: "long", month: "long", day: "numeric", year: "numeric" });
const DAY = english({ weekday: "long", month: "long", day: "numeric" });

export const clock = (date) => TIME.format(date);
export const moment = (ts) => new Date(Number(ts) * 1000);
export const fullTime = (date) => `${LONGEST.format(date)} at ${SECONDS.format(date)}`;

function daysAgo(date) {
  const midnight = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate());
  return Math.round((midnight(new Date()) - midnight(date)) / 86_400_000);
}

/** "Today", "Yesterday", "Tomorrow", or what `format` makes of it. */
function pretty(date, format) {
  return { 0: "today", 1: "yesterday", "-1": "tomorrow" }[daysAgo(date)] ?? format.format(date);
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);
export const dayName = (date) => capital(pretty(date, DAY));
export const dayAndTime = (date) => `${pretty(date, SHORT)} at ${clock(date)}`;

function ago(date) {
  const minutes = Math.round((Date.now() - date) / 60_000);
  const [count, unit] =
    Math.abs(minutes) < 60
      ? [minutes, "minute"]
      : Math.abs(minutes) < 1440
        ? [Math.round(minutes / 60), "hour"]
        : [daysAgo(date), "day"];
  return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(-count, unit);
}

/** Slack's date formatting: https://docs.slack.dev/messaging/formatting-message-text#date-formatting */
export function slackDate(seconds, format, link, fallback) {
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) return fallback ?? "";
  const tokens = {
    date_num: () =>
      [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((n) => String(n).padStart(2, "0")).join("-"),
    date_slash: () => date.toLocaleDateString("en-US"),
    date: () => LONG.format(date),
    date_short: () => SHORT.format(date),
    date_long: () => LONGEST.format(date),
    date_pretty: () => pretty(date, LONG),
    date_short_pretty: () => pretty(date, SHORT),
    date_long_pretty: () => pretty(date, LONGEST),
    day_divider_pretty: () => pretty(date, DAY),
    time: () => clock(date),
    time_secs: () => SECONDS.format(date),
    ago: () => ago(date),
  };
  const text = format.replace(/\{(\w+)\}/g, (whole, token) => tokens[token]?.() ?? whole);
  const shown = h("time", { datetime: date.toISOString(), title: fullTime(date) }, text);
  return link ? anchor(link, shown) : shown;
}

// -------------------- mentions and links

export function userMention(id) {
  return h("span", { class: `mention${id === me() ? " mention-me" : ""}` }, `@${name(id)}`);
}

export function groupMention(id, label) {
  const handle = page.server.groups.find((g) => g.id === id)?.handle ?? label?.replace(/^@/, "") ?? id;
  return h("span", { class: `mention${groupHas(id, me()) ? " mention-me" : ""}` }, `@${handle}`);
}

export function channelMention(id, label) {
  const channel = page.server.channels.find((c) => c.id === id);
  const shown = `#${(channel?.name ?? label ?? id).replace(/^#/, "")}`;
  if (!channel) return h("span", { class: "mention" }, shown);
  return h("button", { type: "button", class: "mention mention-link", onclick: () => go({ in: id }) }, shown);
}

/** Refine never means to wake a whole channel: where a message would, it is a hole, and the page shouts. */
export function broadcast(range) {
  return h(
    "strong",
    { class: "broadcast", role: "alert", title: "This text would notify everybody" },
    `🔔 @${range} pings everybody`,
  );
}

/** A link, where its address is one to follow; a permalink to a message stays on this page. */
export function anchor(address, ...children) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return h("span", { class: "bad-link" }, children, ` (${address})`);
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol))
    return h("span", { class: "bad-link" }, children, ` (${address})`);
  const target = permalink(url);
  if (target) {
    const follow = (event) => {
      event.preventDefault();
      go(target);
    };
    return h("a", { href: "#", class: "link", onclick: follow }, children);
  }
  return h(
    "a",
    { href: url.href, class: "link", target: "_blank", rel: "noopener noreferrer", title: url.href },
    children,
  );
}

/** Where a permalink (…/archives/C0SECURITY/p1700000000000100) leads on this page; null for any other address. */
function permalink(url) {
  const match = url.pathname.match(/\/archives\/(\w+)\/p(\d{10})(\d{6})$/);
  if (!match || !page.server.channels.some((c) => c.id === match[1])) return null;
  return { in: match[1], thread: url.searchParams.get("thread_ts") ?? `${match[2]}.${match[3]}` };
}

// -------------------- mrkdwn

const unescape = (text) => text.replace(/&(lt|gt|amp);/g, (_, entity) => ({ lt: "<", gt: ">", amp: "&" })[entity]);

const HOLD = "\ufffc"; // stands for a finished piece while the text around it is looked at
const ATOMS = /`([^`\n]+)`|<([^<>\n]+)>|(https?:\/\/[^\s<>|\ufffc]*[^\s<>|.,;:!?)'"\]}*_~`\ufffc])/g;
const STYLED = /(^|[^\p{L}\p{N}])([*_~])(?=\S)(.+?)(?<=\S)\2(?![\p{L}\p{N}])/u;
const STYLES = { "*": "strong", _: "em", "~": "s" };

/** Draw mrkdwn: code first, then what stands in angle brackets, then styles, and the three entities last of all. */
export function mrkdwn(text, { verbatim = false } = {}) {
  return text
    .split(/```(?:\n)?([\s\S]+?)```\n?/)
    .flatMap((part, i) => (i % 2 ? preformatted(unescape(part.replace(/\n$/, ""))) : quotesAndLines(part, verbatim)));
}

function quotesAndLines(text, verbatim) {
  const out = [];
  for (const run of text.matchAll(/(?:^(?:&gt;|>).*(?:\n|$))+|(?:^(?!&gt;|>).*(?:\n|$))+/gm)) {
    if (run[0] === "") continue;
    const quoted = /^(?:&gt;|>)/.test(run[0]);
    const lines = quoted ? run[0].replace(/^(?:&gt;|>) ?/gm, "").replace(/\n$/, "") : run[0];
    out.push(quoted ? h("blockquote", {}, inline(lines, verbatim)) : inline(lines, verbatim));
  }
  return out;
}

function inline(text, verbatim) {
  const pieces = [];
  const held = text.replaceAll(HOLD, "\ufffd").replace(ATOMS, (whole, code, token, url) => {
    if (url && verbatim) return whole;
    pieces.push(code ? codeSpan(unescape(code)) : token ? angled(token) : anchor(unescape(url), unescape(url)));
    return HOLD;
  });
  return styled(held, pieces);
}

const UNBROKEN = 24; // characters: a name such as us-east-1 reads badly in two lines

/** Inline code; only what is long may break. */
export function codeSpan(text) {
  return h("code", { class: text.length <= UNBROKEN ? "nowrap" : null }, text);
}

function styled(text, pieces) {
  const match = text.match(STYLED);
  if (!match) return leaves(text, pieces);
  const start = match.index + match[1].length;
  return [
    leaves(text.slice(0, start), pieces),
    h(STYLES[match[2]], {}, styled(match[3], pieces)),
    styled(text.slice(match.index + match[0].length), pieces),
  ];
}

/** Put the finished pieces back between the plain stretches; they come in the order in which they were taken out. */
function leaves(text, pieces) {
  return text.split(HOLD).flatMap((part, i) => [i ? pieces.shift() : null, withEmoji(unescape(part))]);
}

/** What stands between < and >: a mention, a channel, a date, a link; anything else stays text. */
function angled(token) {
  const [target, ...labels] = token.split("|");
  const label = labels.length ? unescape(labels.join("|")) : undefined;
  if (target.startsWith("@")) return userMention(target.slice(1));
  if (target.startsWith("#")) return channelMention(target.slice(1), label);
  if (/^!(channel|here|everyone)$/.test(target)) return broadcast(target.slice(1));
  if (target.startsWith("!subteam^")) return groupMention(target.slice("!subteam^".length), label);
  if (target.startsWith("!date^")) {
    const [, seconds, format, link] = target.split("^");
    return slackDate(seconds, unescape(format ?? ""), link && unescape(link), label);
  }
  if (/^(https?:|mailto:|\w+:)/.test(target)) return anchor(unescape(target), label ?? unescape(target));
  return unescape(`<${token}>`);
}

/** Draw a text object of Block Kit. */
export function textObject(object) {
  if (!object) return null;
  if (object.type === "mrkdwn") return mrkdwn(object.text, { verbatim: object.verbatim });
  return object.emoji === false ? object.text : withEmoji(object.text);
}

// -------------------- preformatted text

const DIFF = /^(?:[+\-@ \\]|$)/;

/** A pre; where every line looks like a line of a diff, added and removed lines are coloured and keep their marks. */
export function preformatted(text) {
  return h("pre", { class: "pre" }, diffLines(text));
}

export function diffLines(text) {
  const lines = text.split("\n");
  if (!lines.some((l) => /^[+-]/.test(l)) || !lines.every((l) => DIFF.test(l))) return text;
  const kinds = { "+": "added", "-": "removed", "@": "hunk" };
  return lines.map((line, i) => {
    const kind = /^(\+\+\+|---) /.test(line) ? "hunk" : kinds[line[0]];
    const shown = i < lines.length - 1 ? `${line}\n` : line;
    return kind ? h("span", { class: `diff diff-${kind}` }, shown) : shown;
  });
}
