// A button that opens a menu. One menu is open at a time; Escape, Tab or a click elsewhere closes it.
import { h } from "./dom.js";
import { changed, page } from "./state.js";

const HALF = 0.5;

/**
 * Draw a menu and its button.
 * `id` tells it apart, `button` is {class, label, content, …attributes}, `items` are {label, note?, content?, act, …attributes};
 * an item without `act` is a heading.
 */
export function menu({ id, button, items, wide = false }) {
  const open = page.menu?.id === id;
  const { label, content, class: style, ...attributes } = button;
  return h(
    "span",
    { class: `menu${open ? " menu-open" : ""}`, "data-menu": id },
    h(
      "button",
      {
        type: "button",
        class: style,
        "aria-haspopup": "menu",
        "aria-expanded": open,
        "aria-label": label,
        title: label,
        ...attributes,
        onclick: (event) => (open ? close() : show(id, event.currentTarget)),
        onkeydown: (event) => {
          if (event.key !== "ArrowDown" || open) return;
          event.preventDefault();
          show(id, event.currentTarget);
        },
      },
      content,
    ),
    open &&
      h(
        "span",
        { class: menuClass(wide), role: "menu", "aria-label": label, onkeydown: keys, mount: focusFirst },
        items.map(item),
      ),
  );
}

function menuClass(wide) {
  return ["menu-list", wide && "menu-wide", page.menu.up && "opens-up", page.menu.left && "opens-left"]
    .filter(Boolean)
    .join(" ");
}

function item({ label, note, content, act, class: style = "", ...attributes }) {
  if (!act) return h("span", { class: "menu-heading", role: "presentation" }, label);
  const choose = () => {
    close();
    act();
  };
  return h(
    "button",
    { type: "button", role: "menuitem", tabindex: "-1", class: `menu-item ${style}`, ...attributes, onclick: choose },
    content ?? [h("span", {}, label), note && h("span", { class: "menu-note" }, note)],
  );
}

function show(id, button) {
  const box = button.getBoundingClientRect();
  page.menu = { id, up: box.bottom > innerHeight * HALF, left: box.left + box.width / 2 > innerWidth * HALF };
  changed();
}

/** Close the open menu and give its button the focus back. */
function close() {
  const button = document.querySelector(`[data-menu="${CSS.escape(page.menu?.id ?? "")}"] > button`);
  page.menu = null;
  button?.focus();
  changed();
}

function focusFirst(list) {
  (list.querySelector("[aria-current=true]") ?? list.querySelector("[role=menuitem]"))?.focus();
}

function keys(event) {
  const items = [...event.currentTarget.querySelectorAll("[role=menuitem]")];
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    items.at(to % items.length).focus();
  } else if (event.key === "Escape") {
    event.preventDefault();
    event.stopPropagation(); // the modal or thread around it stays
    close();
  } else if (event.key === "Tab") {
    page.menu = null;
    changed();
  }
}

addEventListener("pointerdown", (event) => {
  if (!page.menu || event.target.closest?.(`[data-menu="${CSS.escape(page.menu.id)}"]`)) return;
  page.menu = null;
  changed();
});
