// The emoji names that Refine's messages use, and some that people type. A name that is not here stays a name.
import { h } from "./dom.js";

const EMOJI = {
  "+1": "👍",
  "-1": "👎",
  arrow_right: "➡️",
  arrows_counterclockwise: "🔄",
  arrow_down: "⬇️",
  arrow_up: "⬆️",
  ballot_box_with_check: "☑️",
  bell: "🔔",
  black_circle: "⚫",
  books: "📚",
  broom: "🧹",
  bulb: "💡",
  calendar: "📅",
  chart_with_downwards_trend: "📉",
  clipboard: "📋",
  clock3: "🕒",
  closed_lock_with_key: "🔐",
  cloud: "☁️",
  door: "🚪",
  eyes: "👀",
  exclamation: "❗",
  file_folder: "📁",
  fire: "🔥",
  footprints: "👣",
  gear: "⚙️",
  globe_with_meridians: "🌐",
  grey_question: "❔",
  hammer_and_wrench: "🛠️",
  heavy_check_mark: "✔️",
  heavy_minus_sign: "➖",
  heavy_plus_sign: "➕",
  hourglass: "⌛",
  hourglass_flowing_sand: "⏳",
  information_source: "ℹ️",
  key: "🔑",
  large_blue_circle: "🔵",
  large_green_circle: "🟢",
  large_orange_circle: "🟠",
  large_red_circle: "🔴",
  large_yellow_circle: "🟡",
  leftwards_arrow_with_hook: "↩️",
  link: "🔗",
  lock: "🔒",
  mag: "🔍",
  memo: "📝",
  no_entry: "⛔",
  no_entry_sign: "🚫",
  octagonal_sign: "🛑",
  package: "📦",
  page_facing_up: "📄",
  pause_button: "⏸️",
  pencil2: "✏️",
  question: "❓",
  raised_hand: "✋",
  recycle: "♻️",
  rewind: "⏪",
  robot_face: "🤖",
  rotating_light: "🚨",
  scissors: "✂️",
  shield: "🛡️",
  sleeping: "😴",
  sparkles: "✨",
  tada: "🎉",
  timer_clock: "⏲️",
  unlock: "🔓",
  warning: "⚠️",
  wastebasket: "🗑️",
  wave: "👋",
  white_check_mark: "✅",
  white_circle: "⚪",
  wrench: "🔧",
  x: "❌",
  zap: "⚡",
  zzz: "💤",
};

const NAMES = /(?<![\w:]):([a-z0-9_+-]+):(?![\w:])/g;

function draw(name, character) {
  return h(
    "span",
    { class: "emoji", role: "img", "aria-label": name.replaceAll("_", " "), title: `:${name}:` },
    character,
  );
}

/** Return the emoji of a name; `unicode` is what rich text may give beside it: code points in hex, joined by "-". */
export function emoji(name, unicode) {
  const given = unicode && String.fromCodePoint(...unicode.split("-").map((point) => parseInt(point, 16)));
  const character = given || EMOJI[name];
  return character ? draw(name, character) : `:${name}:`;
}

/** Return the text as a list in which known `:names:` have become emoji. */
export function withEmoji(text) {
  const out = [];
  let end = 0;
  for (const match of text.matchAll(NAMES)) {
    if (!EMOJI[match[1]]) continue;
    out.push(text.slice(end, match.index), draw(match[1], EMOJI[match[1]]));
    end = match.index + match[0].length;
  }
  out.push(text.slice(end));
  return out.filter((part) => part !== "");
}
