// The select menus of Block Kit, single and multiple, from a list or from the app: a combobox with a list to pick from.
// The pattern is https://www.w3.org/WAI/ARIA/apg/patterns/combobox/ with list autocomplete.
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { changed, local } from "./state.js";
import { textObject } from "./text.js";

const PAUSE = 150; // milliseconds without a key before the app is asked

/**
 * Draw a picker.
 * `id` tells it apart; `options` are Slack option objects, or `groups` option groups; `suggest` (text → {ok, options, error})
 * asks the app instead; `selected` are the chosen options; `pick` takes the new list of chosen options.
 */
export function picker({
  id,
  label,
  placeholder,
  options,
  groups,
  suggest,
  minQuery = 0,
  selected,
  multi = false,
  max,
  pick,
  attributes,
}) {
  const my = local(`picker:${id}`, { open: false, query: "", active: 0, up: false, found: [], state: "", asked: 0 });
  const shown = my.open
    ? visible(my, suggest ? [{ options: my.found }] : (groups ?? [{ options }]), Boolean(suggest))
    : [];
  const flat = shown.flatMap((group) => group.options);
  const current = selected[0] ? plain(selected[0]) : "";
  const all = suggest ? [] : (groups ?? [{ options }]).flatMap((group) => group.options);
  const full = Boolean(multi && max && selected.length >= max);
  const box = { my, id, all, flat, multi, selected, pick, suggest, minQuery, full };
  return h(
    "span",
    { class: `picker${multi ? " picker-multi" : ""}${my.open ? " picker-open" : ""}`, ...attributes },
    h(
      "span",
      { class: "picker-field", onpointerdown: (event) => focusField(event, box) },
      multi && selected.map((option) => chip(option, box)),
      h("input", {
        class: "picker-input",
        type: "text",
        role: "combobox",
        autocomplete: "off",
        spellcheck: "false",
        size: multi ? 8 : 18,
        "aria-label": label,
        "aria-expanded": my.open,
        "aria-autocomplete": "list",
        "aria-controls": `list:${id}`,
        "aria-activedescendant": my.open && flat.length ? `option:${id}:${my.active}` : null,
        placeholder: (multi ? !selected.length && placeholder : current || placeholder) || "",
        value: my.open ? my.query : multi ? "" : current,
        onclick: (event) => open(box, event.currentTarget),
        oninput: (event) => search(box, event.currentTarget),
        onblur: () => shut(box),
        onkeydown: (event) => keys(event, box),
      }),
      icon("chevron", 14),
    ),
    my.open && list(box, shown),
  );
}

export const plain = (option) => option.text.text;
const isChosen = (option, selected) => selected.some((s) => s.value === option.value);

function visible(my, groups, asked) {
  const query = my.query.trim().toLowerCase();
  return groups
    .map((group) => ({
      label: group.label,
      // The app has already searched; only a list that was given as a whole is searched here.
      options: (group.options ?? []).filter((o) => asked || plain(o).toLowerCase().includes(query)),
    }))
    .filter((group) => group.options.length);
}

function chip(option, box) {
  const drop = () => box.pick(box.selected.filter((s) => s.value !== option.value));
  return h(
    "span",
    { class: "chip", key: `chip:${option.value}` },
    plain(option),
    h(
      "button",
      { type: "button", class: "chip-drop", "aria-label": `Remove ${plain(option)}`, onclick: drop },
      icon("close", 12),
    ),
  );
}

function list(box, shown) {
  const { my, id } = box;
  let index = 0;
  const rows = shown.map((group) => [
    group.label && h("span", { class: "picker-group", role: "presentation" }, plain({ text: group.label })),
    group.options.map((option) => row(option, index++, box)),
  ]);
  return h(
    "span",
    {
      class: `picker-list${my.up ? " opens-up" : ""}`,
      id: `list:${id}`,
      role: "listbox",
      "aria-multiselectable": box.multi ? "true" : null,
      mount: (node) => node.scrollIntoView({ block: "nearest" }),
    },
    my.state
      ? h("span", { class: "picker-note", role: "presentation" }, my.state)
      : rows.length
        ? rows
        : h("span", { class: "picker-note", role: "presentation" }, "Nothing matches"),
    box.full &&
      h("span", { class: "picker-note", role: "presentation" }, `No more than ${box.selected.length} can be picked`),
  );
}

function row(option, index, box) {
  const chosen = isChosen(option, box.selected);
  return h(
    "span",
    {
      class: `picker-option${index === box.my.active ? " is-active" : ""}`,
      id: `option:${box.id}:${index}`,
      key: `option:${option.value}`,
      role: "option",
      "aria-selected": chosen,
      "data-value": option.value,
      onpointerdown: (event) => event.preventDefault(), // the field keeps the focus
      onclick: () => choose(option, box),
    },
    h(
      "span",
      { class: "picker-label" },
      textObject(option.text),
      option.description && h("span", { class: "picker-description" }, textObject(option.description)),
    ),
    chosen && icon("check", 16),
  );
}

function focusField(event, box) {
  if (event.target.closest("button, input")) return;
  event.preventDefault();
  const input = event.currentTarget.querySelector("input");
  input.focus();
  open(box, input);
}

function open(box, input) {
  const { my } = box;
  if (my.open) return;
  const at = input.closest(".picker").getBoundingClientRect();
  Object.assign(my, {
    open: true,
    query: "",
    active: 0,
    up: at.bottom > innerHeight * 0.6 && !input.closest("dialog"),
  });
  if (!box.multi)
    my.active = Math.max(
      0,
      box.all.findIndex((option) => isChosen(option, box.selected)),
    );
  if (box.suggest) ask(box, 0);
  changed();
}

function shut(box) {
  Object.assign(box.my, { open: false, query: "" });
  changed();
}

function search(box, input) {
  const typed = input.value;
  open(box, input);
  Object.assign(box.my, { query: typed, active: 0 });
  if (box.suggest) ask(box, PAUSE);
  changed();
}

/** Ask the app for options; only the answer to the latest question counts. */
function ask({ my, suggest, minQuery }, pause) {
  const mine = ++my.asked;
  if (my.query.length < minQuery) {
    Object.assign(my, { found: [], state: `Type at least ${minQuery} character${minQuery > 1 ? "s" : ""}` });
    return;
  }
  if (!my.found.length) my.state = "Searching…";
  setTimeout(async () => {
    if (mine !== my.asked) return;
    const answer = await suggest(my.query);
    if (mine !== my.asked) return;
    const found = answer.options ?? (answer.option_groups ?? []).flatMap((group) => group.options);
    Object.assign(my, { found, state: answer.ok ? "" : answer.error, active: 0 });
    changed();
  }, pause);
}

function choose(option, box) {
  const { my, multi, selected, pick } = box;
  if (!multi) {
    shut(box);
    pick([option]);
    return;
  }
  const without = selected.filter((s) => s.value !== option.value);
  if (without.length === selected.length && box.full) return;
  my.query = "";
  pick(without.length < selected.length ? without : [...selected, option]);
}

function keys(event, box) {
  const { my, flat, multi, selected, pick } = box;
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
  if (step) {
    event.preventDefault();
    if (!my.open) return open(box, event.currentTarget);
    my.active = Math.max(0, Math.min(flat.length - 1, my.active + step));
    changed();
    requestAnimationFrame(() =>
      document.getElementById(`option:${box.id}:${my.active}`)?.scrollIntoView({ block: "nearest" }),
    );
  } else if (event.key === "Enter") {
    event.preventDefault(); // it picks; it does not submit the form around it
    if (my.open && flat[my.active]) choose(flat[my.active], box);
    else open(box, event.currentTarget);
  } else if (event.key === "Escape" && my.open) {
    event.preventDefault();
    event.stopPropagation();
    shut(box);
  } else if (event.key === "Backspace" && multi && !my.query && selected.length) {
    pick(selected.slice(0, -1));
  }
}
