// Modals: the top view of the person's stack, with what was typed into it and what the app found wrong.
import { drawBlocks, forgetValues, problemLine, valuesOf } from "./blocks.js";
import { dialog } from "./dialog.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { act, changed, isWaiting, local, press, tell, views } from "./state.js";
import { textObject } from "./text.js";

const closing = new Set(); // views that the person closed and the server still has

export function drawModal() {
  const stack = views().filter((view) => !closing.has(view.id));
  const view = stack.at(-1);
  if (!view) return null;
  const surface = surfaceOf(view);
  const waiting = isWaiting(surface.id);
  const submit =
    view.submit &&
    h(
      "button",
      {
        type: "submit",
        class: `button button-primary${waiting ? " is-waiting" : ""}`,
        "data-testid": "modal-submit",
        "aria-busy": waiting ? "true" : null,
        disabled: view.submit_disabled && !surface.wasTouched,
      },
      h("span", { class: "button-text" }, textObject(view.submit)),
      waiting && h("span", { class: "spinner" }),
    );
  return dialog(
    {
      key: `modal:${view.id}`,
      dismiss: () => close([view]),
      attributes: {
        class: "modal",
        "data-testid": "modal",
        "data-view-id": view.id,
        "data-callback-id": view.callback_id ?? null,
        "aria-labelledby": `title:${view.id}`,
      },
    },
    h(
      "form",
      {
        class: "modal-form",
        novalidate: true,
        onsubmit: (event) => sendForm(event, view, surface),
        onkeydown: submitFromTextarea,
      },
      h(
        "header",
        { class: "modal-head" },
        stack.length > 1 &&
          h(
            "button",
            { type: "button", class: "icon-button", "aria-label": "Back", title: "Back", onclick: () => close([view]) },
            icon("back"),
          ),
        h("h2", { id: `title:${view.id}`, tabindex: "-1" }, textObject(view.title)),
        h(
          "button",
          {
            type: "button",
            class: "icon-button",
            "aria-label": "Close",
            title: "Close",
            "data-testid": "modal-x",
            onclick: () => close(stack.toReversed()),
          },
          icon("close"),
        ),
      ),
      h("div", { class: "modal-body" }, drawBlocks(surface)),
      problemLine(surface.id),
      h(
        "footer",
        { class: "modal-foot" },
        h("span", { class: "modal-app" }, "Refine"),
        h(
          "button",
          { type: "button", class: "button", "data-testid": "modal-close", onclick: () => close([view]) },
          view.close ? textObject(view.close) : submit ? "Cancel" : "Close",
        ),
        submit,
      ),
    ),
  );
}

function surfaceOf(view) {
  const id = `view:${view.id}`;
  const my = local(id, { errors: {}, touched: false });
  return {
    id,
    blocks: view.blocks,
    act: { do: "click_view", view_id: view.id },
    errors: my.errors,
    wasTouched: my.touched,
    touched: (blockId) => {
      if (my.touched && !my.errors[blockId]) return; // typing on changes nothing but the field itself
      my.touched = true;
      delete my.errors[blockId];
      changed();
    },
    refuse: (errors) => {
      my.errors = errors;
      changed();
      requestAnimationFrame(focusFirstError);
    },
  };
}

/** Close views, the top one first; the app is told of each. */
async function close(gone) {
  for (const view of gone) closing.add(view.id);
  changed();
  for (const view of gone) {
    const answer = await act({ do: "close", view_id: view.id });
    if (answer.ok) {
      forgetValues(`view:${view.id}`);
    } else {
      closing.delete(view.id);
      tell(`view:${view.id}`, answer.error);
    }
  }
}

async function sendForm(event, view, surface) {
  event.preventDefault();
  if (!view.submit) return;
  const values = valuesOf(surface);
  const errors = missing(view.blocks, values);
  surface.refuse(errors);
  if (Object.keys(errors).length) return;
  const answer = await press(surface.id, surface.id, { do: "submit", view_id: view.id, values });
  if (answer.ack?.response_action === "errors") {
    tell(surface.id, "");
    surface.refuse(answer.ack.errors);
  } else if (answer.ok && answer.ack?.response_action !== "update") {
    forgetValues(surface.id);
  }
}

/** What Slack itself refuses before it asks the app: required fields left empty, and lengths. */
function missing(blocks, values) {
  const errors = {};
  for (const { type, block_id: id, element, optional } of blocks) {
    if (type !== "input") continue;
    const { type: _, ...value } = values[id][element.action_id];
    const [given] = Object.values(value);
    const empty = given === null || given === undefined || given.length === 0;
    if (empty && !optional) errors[id] = "Please complete this required field.";
    if (!empty && given.length < element.min_length)
      errors[id] = `Please enter at least ${element.min_length} characters.`;
    if (!empty && given.length > element.max_length)
      errors[id] = `Please enter no more than ${element.max_length} characters.`;
  }
  return errors;
}

function focusFirstError() {
  const wrong = document.querySelector(".input-wrong");
  wrong?.querySelector("input, textarea")?.focus();
  wrong?.scrollIntoView({ block: "nearest" });
}

function submitFromTextarea(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.requestSubmit();
}
