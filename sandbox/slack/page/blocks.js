// Block Kit, as far as Refine uses it: https://docs.slack.dev/reference/block-kit. What is not known here is shown
// loudly, so that a template which uses it cannot go unnoticed.
import { confirmed } from "./dialog.js";
import { h } from "./dom.js";
import { emoji } from "./emoji.js";
import { icon } from "./icons.js";
import { menu } from "./menu.js";
import { picker } from "./picker.js";
import { act, changed, isWaiting, page, press, problem, tell } from "./state.js";
import {
  anchor,
  broadcast,
  channelMention,
  codeSpan,
  groupMention,
  preformatted,
  slackDate,
  textObject,
  userMention,
} from "./text.js";

/**
 * Draw the blocks of a surface.
 * A surface is {id, blocks, act, errors?}: `id` tells it apart on this page, `act` is the body of the act that a click
 * in it sends (what was clicked is added), `errors` are {block_id: sentence} from a refused submission.
 */
export function drawBlocks(surface) {
  const seen = {};
  return (surface.blocks ?? []).map((block) => {
    seen[block.type] = (seen[block.type] ?? 0) + 1;
    const draw = BLOCKS[block.type] ?? unsupportedBlock;
    const known = block.block_id ?? `${block.type}.${seen[block.type]}`;
    return h(
      "div",
      {
        class: `block block-${block.type}`,
        // Not the block_id, but where people type: Slack makes up new ids, and what changed keeps its elements by order.
        key: block.type === "input" ? known : `${block.type}.${seen[block.type]}`,
        "data-block-id": block.block_id ?? null,
      },
      draw({ ...block, block_id: known }, surface),
      problemLine(placeOf(surface, known)),
    );
  });
}

const placeOf = (surface, blockId) => `${surface.id}/${blockId}`;

/** The sentence of what went wrong at a place, until it is dismissed. */
export function problemLine(where) {
  const sentence = problem(where);
  if (!sentence) return null;
  return h(
    "div",
    { class: "problem", role: "alert", "data-testid": "problem" },
    icon("warn", 16),
    h("span", {}, sentence),
    h(
      "button",
      { type: "button", class: "icon-button", "aria-label": "Dismiss", onclick: () => tell(where, "") },
      icon("close", 14),
    ),
  );
}

// -------------------- blocks

const BLOCKS = {
  header: (block) => h(`h${Math.min(6, (block.level ?? 1) + 1)}`, { class: "header" }, textObject(block.text)),
  divider: () => h("hr", {}),
  section,
  context,
  actions: (block, surface) => h("div", { class: "elements" }, drawElements(block.elements, block, surface)),
  image: (block) =>
    h("figure", { class: "image" }, block.title && h("figcaption", {}, textObject(block.title)), image(block)),
  input,
  rich_text: (block) => h("div", { class: "rich-text" }, richText(block.elements)),
  table,
};

function unsupportedBlock(block) {
  return h(
    "div",
    { class: "unsupported", "data-testid": "unsupported" },
    h("strong", {}, `[unsupported block “${block.type}”]`),
    h("details", {}, h("summary", {}, "What was sent"), h("pre", { class: "pre" }, JSON.stringify(block, null, 2))),
  );
}

function section(block, surface) {
  return h(
    "div",
    { class: `section${block.accessory ? " section-with-accessory" : ""}` },
    h(
      "div",
      { class: "section-body" },
      block.text && h("div", { class: "text" }, textObject(block.text)),
      block.fields &&
        h(
          "div",
          { class: "fields" },
          block.fields.map((field) => h("div", { class: "text field" }, textObject(field))),
        ),
    ),
    block.accessory && h("div", { class: "accessory" }, drawElements([block.accessory], block, surface)),
  );
}

function context(block) {
  const parts = block.elements.map((element) =>
    element.type === "image" ? image(element) : h("span", { class: "text" }, textObject(element)),
  );
  return h("div", { class: "context" }, parts);
}

/** Images elsewhere on the web are not loaded: the page asks nobody but the local Slack. */
function image({ image_url: elsewhere, slack_file: file, alt_text: alt }) {
  const address = file ? `/files/${file.id}` : elsewhere;
  const local = address && new URL(address, location.href).origin === location.origin;
  return local
    ? h("img", { src: address, alt })
    : h("span", { class: "image-elsewhere", role: "img", "aria-label": alt, title: address }, `🖼 ${alt}`);
}

function input(block, surface) {
  const error = surface.errors?.[block.block_id];
  const base = `${placeOf(surface, block.block_id)}/field`;
  const notes = [error && `${base}/error`, block.hint && `${base}/hint`].filter(Boolean).join(" ");
  const label = {
    label: block.label.text,
    describedBy: notes || null,
    invalid: Boolean(error),
    required: !block.optional,
  };
  return h(
    "div",
    { class: `input${error ? " input-wrong" : ""}`, role: "group", "aria-label": block.label.text },
    h(
      "div",
      { class: "input-label" },
      textObject(block.label),
      block.optional && h("span", { class: "optional" }, " (optional)"),
    ),
    drawElements([block.element], block, surface, label),
    error &&
      h(
        "div",
        { class: "input-error", id: `${base}/error`, role: "alert", "data-testid": "input-error" },
        icon("warn", 14),
        error,
      ),
    block.hint && h("div", { class: "hint", id: `${base}/hint` }, textObject(block.hint)),
  );
}

const SHORT = 16; // characters: a Region or a count reads badly in two lines

function table(block) {
  const settings = block.column_settings ?? [];
  const style = (cell, i) => {
    const { align, is_wrapped: wrapped } = settings[i] ?? {};
    return [align && `align-${align}`, (wrapped === false || cell?.text?.length <= SHORT) && "nowrap"]
      .filter(Boolean)
      .join(" ");
  };
  const row = (tag, scope) => (cells) =>
    h(
      "tr",
      {},
      cells.map((cell, i) => h(tag, { class: style(scope ? null : cell, i), scope }, tableCell(cell))),
    );
  const [head, ...rows] = block.rows;
  return h(
    "div",
    { class: "scroll-box", tabindex: "0", role: "group", "aria-label": "Table" },
    h("table", { class: "table" }, h("thead", {}, row("th", "col")(head)), h("tbody", {}, rows.map(row("td")))),
  );
}

/** Names such as dynamodb:DescribeTable break between their words before they break anywhere else. */
const breakable = (text) =>
  text.split(/(?<=[:/])|(?<=[a-z])(?=[A-Z])/).flatMap((part, i) => (i ? [h("wbr"), part] : part));

function tableCell(cell) {
  if (!cell) return null;
  if (cell.type === "rich_text") return richText(cell.elements);
  if (cell.type === "raw_text") return breakable(cell.text);
  if (cell.type === "raw_number") return cell.text ?? String(cell.value);
  return h("strong", { class: "unsupported", "data-testid": "unsupported" }, `[unsupported cell “${cell.type}”]`);
}

// -------------------- rich text

const RICH = {
  rich_text_section: (part) => h("div", { class: "rich-section" }, part.elements.map(richInline)),
  rich_text_preformatted: (part) => preformatted(part.elements.map((e) => e.text ?? e.url ?? "").join("")),
  rich_text_quote: (part) => h("blockquote", {}, part.elements.map(richInline)),
  rich_text_list: (part) =>
    h(
      part.style === "ordered" ? "ol" : "ul",
      { class: `rich-list indent-${Math.min(part.indent ?? 0, 4)}`, start: part.offset ? part.offset + 1 : null },
      part.elements.map((item) => h("li", {}, RICH[item.type] ? richText([item]) : unknownRich(item))),
    ),
};

function richText(parts) {
  return parts.map((part) => (RICH[part.type] ?? unknownRich)(part));
}

function unknownRich(part) {
  return h("strong", { class: "unsupported", "data-testid": "unsupported" }, `[unsupported rich text “${part.type}”]`);
}

const INLINE = {
  text: (e) => e.text,
  link: (e) => anchor(e.url, e.text || e.url),
  emoji: (e) => emoji(e.name, e.unicode),
  user: (e) => userMention(e.user_id),
  usergroup: (e) => groupMention(e.usergroup_id),
  channel: (e) => channelMention(e.channel_id),
  broadcast: (e) => broadcast(e.range),
  date: (e) => slackDate(e.timestamp, e.format, e.url, e.fallback),
};
const STYLES = { bold: "strong", italic: "em", strike: "s", underline: "u" };

function richInline(element) {
  const draw = INLINE[element.type];
  if (!draw) return unknownRich(element);
  const start = element.type === "text" && element.style?.code ? codeSpan(element.text) : draw(element);
  return Object.entries(STYLES).reduce(
    (drawn, [style, tag]) => (element.style?.[style] ? h(tag, {}, drawn) : drawn),
    start,
  );
}

// -------------------- elements

/**
 * Draw the elements of a block. `field` is what an input block adds: {label, describedBy, invalid, required}.
 */
function drawElements(elements, block, surface, field) {
  return elements.map((element) => {
    const draw = ELEMENTS[element.type];
    if (!draw)
      return h(
        "strong",
        { class: "unsupported", "data-testid": "unsupported" },
        `[unsupported element “${element.type}”]`,
      );
    return draw(slot(element, block, surface, field));
  });
}

/** All that an element needs to draw itself and to tell what was done with it. */
function slot(element, block, surface, field) {
  const where = `${placeOf(surface, block.block_id)}/${element.action_id ?? element.type}`;
  // Slack sends no action for a change of an input unless the block asks for it; for all other blocks it does.
  const dispatches = !field || Boolean(block.dispatch_action);
  const keep = (value) => {
    values.set(where, value);
    surface.touched?.(block.block_id);
  };
  return {
    element,
    where,
    key: element.action_id ?? element.type,
    dispatches,
    keep,
    label: field?.label ?? element.accessibility_label ?? element.placeholder?.text ?? null,
    labels: field
      ? { "aria-describedby": field.describedBy, "aria-invalid": field.invalid, "aria-required": field.required }
      : {},
    attributes: { "data-action-id": element.action_id ?? null, "data-block-id": block.block_id },
    value: valueOf(element, where),
    send: (value) => send(element, block, surface, value),
    change: (value) => {
      keep(value);
      changed();
      if (dispatches) send(element, block, surface, value);
    },
    suggest: (text) =>
      act({ ...surface.act, do: "suggest", block_id: block.block_id, action_id: element.action_id, element, text }),
  };
}

const ELEMENTS = {
  button,
  overflow,
  image: ({ element }) => image(element),
  static_select: select,
  multi_static_select: select,
  external_select: select,
  multi_external_select: select,
  users_select: select,
  multi_users_select: select,
  radio_buttons: choices,
  checkboxes: choices,
  plain_text_input: textInput,
  datepicker: dateInput,
};

function button({ element, where, key, attributes, send }) {
  const waiting = isWaiting(where);
  const props = {
    ...attributes,
    key,
    class: `button${element.style ? ` button-${element.style}` : ""}${waiting ? " is-waiting" : ""}`,
    "aria-label": element.accessibility_label ?? null,
    "aria-busy": waiting ? "true" : null,
    "data-value": element.value ?? null,
    onclick: () => send(),
  };
  if (element.url)
    return h(
      "a",
      { ...props, href: element.url, target: "_blank", rel: "noopener noreferrer" },
      textObject(element.text),
    );
  return h(
    "button",
    { type: "button", ...props },
    h("span", { class: "button-text" }, textObject(element.text)),
    waiting && h("span", { class: "spinner" }),
  );
}

function overflow({ element, where, attributes, send }) {
  const items = element.options.map((option) => ({
    label: option.text.text,
    content: [
      h("span", {}, textObject(option.text)),
      option.description && h("span", { class: "menu-note" }, textObject(option.description)),
    ],
    "data-value": option.value,
    act: () => send({ selected_option: option }),
  }));
  const label = element.accessibility_label ?? "More actions";
  const style = `button button-icon${isWaiting(where) ? " is-waiting" : ""}`;
  return menu({ id: where, button: { label, class: style, content: icon("more", 16), ...attributes }, items });
}

function select({ element, where, key, label, labels, attributes, value, change, suggest }) {
  const { type } = element;
  const multi = type.startsWith("multi_");
  const people = type.endsWith("users_select");
  const asOption = (id) => ({
    text: { type: "plain_text", text: page.server.users.find((u) => u.id === id)?.real_name ?? id, emoji: false },
    value: id,
  });
  return h(
    "span",
    { class: "select", key: where },
    picker({
      id: where,
      label,
      placeholder: element.placeholder?.text ?? (multi ? "Select options" : "Select an option"),
      options: people ? page.server.users.map((u) => asOption(u.id)) : element.options,
      groups: element.option_groups,
      suggest: type.endsWith("external_select") ? suggest : null,
      minQuery: element.min_query_length ?? 3,
      selected: people
        ? (multi ? value.selected_users : [value.selected_user].filter(Boolean)).map(asOption)
        : multi
          ? value.selected_options
          : [value.selected_option].filter(Boolean),
      multi,
      max: element.max_selected_items,
      pick: (options) => {
        const picked = people ? options.map((o) => o.value) : options;
        const name = `selected_${people ? "user" : "option"}${multi ? "s" : ""}`;
        change({ [name]: multi ? picked : (picked[0] ?? null) });
      },
      attributes: { ...attributes, ...labels, "data-testid": "select" },
    }),
    isWaiting(where) && h("span", { class: "spinner" }),
  );
}

function choices({ element, where, key, label, labels, attributes, value, change }) {
  const single = element.type === "radio_buttons";
  const chosen = single ? [value.selected_option].filter(Boolean) : value.selected_options;
  const toggle = (option, on) => {
    if (single) return change({ selected_option: option });
    const rest = chosen.filter((o) => o.value !== option.value);
    return change({ selected_options: on ? [...rest, option] : rest });
  };
  const row = (option) =>
    h(
      "label",
      { class: "choice", key: option.value },
      h("input", {
        type: single ? "radio" : "checkbox",
        name: where,
        "data-value": option.value,
        checked: chosen.some((o) => o.value === option.value),
        onchange: (event) => toggle(option, event.currentTarget.checked),
      }),
      h(
        "span",
        {},
        h("span", { class: "text" }, textObject(option.text)),
        option.description && h("span", { class: "choice-note text" }, textObject(option.description)),
      ),
    );
  return h(
    "div",
    { class: "choices", key, role: single ? "radiogroup" : "group", "aria-label": label, ...labels, ...attributes },
    element.options.map(row),
  );
}

function textInput({ element, key, label, labels, attributes, value, keep, send, dispatches }) {
  const triggers = dispatches ? (element.dispatch_action_config?.trigger_actions_on ?? ["on_enter_pressed"]) : [];
  const props = {
    ...attributes,
    ...labels,
    key,
    class: "text-input",
    "aria-label": label,
    placeholder: element.placeholder?.text ?? null,
    minlength: element.min_length ?? null,
    maxlength: element.max_length ?? null,
    "data-autofocus": element.focus_on_load ? "true" : null,
    value: value.value ?? "",
    oninput: (event) => {
      keep({ value: event.currentTarget.value || null });
      if (triggers.includes("on_character_entered")) send({ value: event.currentTarget.value });
    },
  };
  if (element.multiline) return h("textarea", { rows: 4, ...props });
  const enter = (event) => {
    if (event.key !== "Enter" || !triggers.includes("on_enter_pressed")) return;
    event.preventDefault();
    send({ value: event.currentTarget.value });
  };
  return h("input", { type: "text", autocomplete: "off", ...props, onkeydown: enter });
}

function dateInput({ element, key, label, labels, attributes, value, change }) {
  return h("input", {
    type: "date",
    ...attributes,
    ...labels,
    key,
    class: "text-input date-input",
    "aria-label": label,
    value: value.selected_date ?? "",
    onchange: (event) => change({ selected_date: event.currentTarget.value || null }),
  });
}

// -------------------- values and acts

const values = new Map(); // what people chose or typed: place of the element → value, as Slack names its parts

/** Forget what was typed into a surface that is gone. */
export function forgetValues(surfaceId) {
  for (const where of [...values.keys()]) if (where.startsWith(`${surfaceId}/`)) values.delete(where);
}

const INITIAL = {
  plain_text_input: (e) => ({ value: e.initial_value ?? null }),
  static_select: (e) => ({ selected_option: e.initial_option ?? null }),
  external_select: (e) => ({ selected_option: e.initial_option ?? null }),
  users_select: (e) => ({ selected_user: e.initial_user ?? null }),
  radio_buttons: (e) => ({ selected_option: e.initial_option ?? null }),
  multi_static_select: (e) => ({ selected_options: e.initial_options ?? [] }),
  multi_external_select: (e) => ({ selected_options: e.initial_options ?? [] }),
  multi_users_select: (e) => ({ selected_users: e.initial_users ?? [] }),
  checkboxes: (e) => ({ selected_options: e.initial_options ?? [] }),
  datepicker: (e) => ({ selected_date: e.initial_date ?? null }),
};

function valueOf(element, where) {
  return values.get(where) ?? INITIAL[element.type]?.(element) ?? {};
}

/** The state.values of a surface, as Slack sends them: {block_id: {action_id: {type, value or selected…}}}. */
export function valuesOf(surface) {
  const all = {};
  for (const block of surface.blocks ?? []) {
    for (const element of [block.element, block.accessory, ...(block.elements ?? [])]) {
      if (!element || !INITIAL[element.type]) continue;
      const value = valueOf(element, `${placeOf(surface, block.block_id)}/${element.action_id}`);
      (all[block.block_id] ??= {})[element.action_id] = { type: element.type, ...value };
    }
  }
  return all;
}

/** Send a click or a choice to the app, after its confirm dialog where it has one. */
async function send(element, block, surface, selected) {
  if (element.confirm && !(await confirmed(element.confirm))) return;
  const where = `${placeOf(surface, block.block_id)}/${element.action_id}`;
  await press(where, placeOf(surface, block.block_id), {
    ...surface.act,
    block_id: block.block_id,
    action_id: element.action_id,
    element,
    selected: selected ?? null,
    values: valuesOf(surface),
  });
}
