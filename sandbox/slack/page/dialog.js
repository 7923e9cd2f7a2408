// Dialogs on top of the page. The browser's own <dialog> traps the focus, makes the rest inert and gives the focus back.
import { h } from "./dom.js";
import { changed, page } from "./state.js";
import { textObject } from "./text.js";

/** Draw an open dialog; `dismiss` is called for Escape and for a click beside it. */
export function dialog({ key, dismiss, attributes }, ...children) {
  return h(
    "dialog",
    {
      key,
      ...attributes,
      mount: open,
      unmount: (node) => node.close(),
      oncancel: (event) => {
        event.preventDefault(); // the page takes it away itself, once it is gone from the state
        dismiss();
      },
      onpointerdown: (event) => event.target === event.currentTarget && outside(event) && dismiss(),
    },
    children,
  );
}

/** Focus the first field, unless that would scroll past what is to be read before it. */
function open(node) {
  node.showModal();
  const field = node.querySelector("[data-autofocus], .text-input, .picker-input, .choice input");
  const end = node.getBoundingClientRect().bottom;
  const inSight = field && field.getBoundingClientRect().bottom <= end;
  (inSight ? field : node.querySelector("h2")).focus({ preventScroll: true });
}

function outside({ currentTarget, clientX, clientY }) {
  const box = currentTarget.getBoundingClientRect();
  return clientX < box.left || clientX > box.right || clientY < box.top || clientY > box.bottom;
}

/** Ask before a click is sent, with Slack's confirm object; resolves to whether the person said yes. */
export function confirmed(question) {
  return new Promise((resolve) => {
    page.confirm = { question, resolve };
    changed();
  });
}

export function drawConfirm() {
  if (!page.confirm) return null;
  const { question, resolve } = page.confirm;
  const answer = (yes) => {
    page.confirm = null;
    resolve(yes);
    changed();
  };
  const dangerous = question.style === "danger";
  const button = (yes, style, text) =>
    h(
      "button",
      {
        type: "button",
        class: `button ${style}`,
        "data-testid": yes ? "confirm-yes" : "confirm-no",
        "data-autofocus": yes !== dangerous ? "true" : null,
        onclick: () => answer(yes),
      },
      textObject(text),
    );
  return dialog(
    {
      key: "confirm",
      dismiss: () => answer(false),
      attributes: {
        class: "modal confirm",
        "data-testid": "confirm",
        "aria-labelledby": "confirm-title",
        "aria-describedby": "confirm-text",
        role: "alertdialog",
      },
    },
    h("header", { class: "modal-head" }, h("h2", { id: "confirm-title", tabindex: "-1" }, textObject(question.title))),
    h("div", { class: "modal-body" }, h("div", { class: "text", id: "confirm-text" }, textObject(question.text))),
    h(
      "footer",
      { class: "modal-foot" },
      button(false, "", question.deny),
      button(true, dangerous ? "button-danger" : "button-primary", question.confirm),
    ),
  );
}
