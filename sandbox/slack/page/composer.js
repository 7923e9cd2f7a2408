// The message box: a person's own message, or /refine with its hints; and the shortcuts beside it.
import { problemLine } from "./blocks.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { menu } from "./menu.js";
import { changed, isWaiting, local, me, name, page, press, tell } from "./state.js";

const COMMAND = "/refine";
const HINTS = [
  { use: "/refine ", args: "ROLE", note: "Review a role and propose a trim: a name, an ARN, or account/name" },
  { use: "/refine list", note: "The open cases" },
  { use: "/refine status", note: "What Refine is doing, in counts" },
  { use: "/refine history ", args: "ROLE", note: "Who did what to a role" },
  { use: "/refine rollback ", args: "ROLE REASON", note: "Put back what a role had before its last change" },
  { use: "/refine pause", note: "Stop applying changes" },
  { use: "/refine resume", note: "Go on applying changes" },
  { use: "/refine help", note: "What else there is" },
];

/** Draw the box of a channel or a thread; `sent` is called once what was written is there. */
export function composer({ channel, thread = "", hint, sent }) {
  const where = `composer:${me()}/${channel}/${thread}`;
  const my = local(where, { text: "", active: -1, hidden: false });
  const hints = thread || my.hidden ? [] : matching(my.text);
  const box = { where, my, hints, channel, thread, sent };
  return h(
    "form",
    {
      class: "composer",
      key: `composer:${channel}/${thread}`,
      "data-testid": thread ? "thread-composer" : "composer",
      onsubmit: (event) => {
        event.preventDefault();
        sendText(box);
      },
    },
    hints.length > 0 && hintList(box),
    problemLine(where),
    h(
      "div",
      { class: "composer-box" },
      h("textarea", {
        class: "composer-text",
        rows: 1,
        placeholder: hint,
        "aria-label": thread ? `Reply in the thread as ${name(me())}` : `Message or /refine command, as ${name(me())}`,
        "aria-autocomplete": thread ? null : "list",
        "aria-controls": hints.length ? `${where}/hints` : null,
        "aria-activedescendant": my.active >= 0 && hints.length ? `${where}/hint.${my.active}` : null,
        value: my.text,
        oninput: (event) => {
          const before = my.text;
          Object.assign(my, { text: event.currentTarget.value, active: -1, hidden: false });
          // Plain words change nothing else on the page, so that typing need not draw it anew.
          if (/^\/|^\s*$/.test(before) || /^\/|^\s*$/.test(my.text)) changed();
        },
        onkeydown: (event) => keys(event, box),
      }),
      h(
        "div",
        { class: "composer-tools" },
        thread ? h("span", {}) : shortcuts(where),
        h(
          "button",
          {
            type: "submit",
            class: `send${my.text.trim() ? " send-ready" : ""}`,
            "aria-label": "Send",
            title: "Send (Enter)",
            "aria-busy": isWaiting(where),
          },
          isWaiting(where) ? h("span", { class: "spinner" }) : icon("send"),
        ),
      ),
    ),
  );
}

function matching(text) {
  if (!text.startsWith("/") || text.includes("\n")) return [];
  return HINTS.filter(({ use, args }) => use.startsWith(text) || (args && text.startsWith(use) && use !== "/refine "));
}

function hintList(box) {
  const { where, my, hints } = box;
  return h(
    "div",
    { class: "hints", id: `${where}/hints`, role: "listbox", "aria-label": "Commands", "data-testid": "command-hints" },
    h("div", { class: "hints-title", role: "presentation" }, "Refine"),
    hints.map((entry, i) =>
      h(
        "div",
        {
          class: `hint-row${i === my.active ? " is-active" : ""}`,
          id: `${where}/hint.${i}`,
          role: "option",
          "aria-selected": i === my.active,
          onpointerdown: (event) => event.preventDefault(),
          onclick: (event) => complete(box, entry, event.currentTarget),
        },
        h("span", { class: "hint-use" }, entry.use, entry.args && h("em", {}, entry.args)),
        h("span", { class: "hint-note" }, entry.note),
      ),
    ),
  );
}

function complete({ my }, entry, node) {
  Object.assign(my, { text: entry.use, active: -1, hidden: !entry.args });
  node.closest("form").querySelector("textarea").focus();
  changed();
}

function keys(event, box) {
  const { my, hints } = box;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && hints.length) {
    event.preventDefault();
    my.active = (my.active + step + hints.length) % hints.length;
    changed();
  } else if (hints.length && (event.key === "Tab" || event.key === "Enter") && my.active >= 0) {
    event.preventDefault();
    complete(box, hints[my.active], event.currentTarget);
  } else if (event.key === "Escape" && hints.length) {
    event.preventDefault();
    my.hidden = true;
    changed();
  } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    event.currentTarget.form.requestSubmit();
  }
}

/** Slack sends people's own text escaped; a slash command goes to the app as it was typed. */
const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

async function sendText({ where, my, channel, thread, sent }) {
  const text = my.text.trim();
  if (!text || isWaiting(where)) return;
  const [command, ...words] = text.split(" ");
  if (text.startsWith("/") && (thread || command !== COMMAND)) {
    tell(
      where,
      thread
        ? "Slack takes no slash commands in threads: use the channel's message box."
        : `There is no ${command} here, only ${COMMAND}.`,
    );
    return;
  }
  const typed = my.text;
  my.text = "";
  const answer = text.startsWith("/")
    ? await press(where, where, { do: "command", channel, text: words.join(" ") })
    : await press(where, where, { do: "message", channel, text: escape(text), ...(thread && { thread_ts: thread }) });
  if (answer.ok) sent();
  else if (!my.text) my.text = typed; // nothing typed is lost
  changed();
}

function shortcuts(where) {
  const item = ({ callback_id, name: label }) => ({
    label,
    note: "Refine",
    act: () => press(where, where, { do: "shortcut", callback_id }),
    "data-callback-id": callback_id,
  });
  return menu({
    id: `shortcuts:${where}`,
    button: { label: "Shortcuts", class: "icon-button", content: icon("bolt"), "data-testid": "shortcuts" },
    items: [{ label: "Shortcuts" }, ...page.server.shortcuts.filter((s) => s.type === "global").map(item)],
  });
}
