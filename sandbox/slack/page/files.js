// Files: a line to download each, and what is in it where it is text.
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { changed, local, page } from "./state.js";
import { diffLines } from "./text.js";

const PREVIEW_LINES = 6;
const MOST_SHOWN = 200_000; // characters; a longer file is for downloading

export function drawFiles(ids = []) {
  const files = ids.map((id) => page.server.files?.[id]).filter(Boolean);
  if (!files.length) return null;
  return h("div", { class: "files" }, files.map(drawFile));
}

function drawFile(file) {
  const my = local(`file:${file.id}`, { text: null, open: false, failed: false });
  const address = addressOf(file);
  const readable = isText(file);
  if (readable && my.text === null && !my.failed) load(address, my);
  const lines = my.text?.split("\n") ?? [];
  const longer = lines.length > PREVIEW_LINES;
  const toggle = () => {
    my.open = !my.open;
    changed();
  };
  return h(
    "figure",
    {
      class: `file${my.open ? " file-open" : ""}`,
      key: file.id,
      "data-testid": "file",
      "data-file-id": file.id,
      "data-name": file.name,
    },
    h(
      "figcaption",
      { class: "file-head" },
      h("span", { class: "file-icon" }, icon("file", 20)),
      h(
        "span",
        { class: "file-name" },
        h("strong", {}, file.title || file.name),
        h("span", {}, `${kindOf(file)} · ${sizeOf(file.size)}`),
      ),
      h(
        "a",
        {
          class: "icon-button",
          href: address,
          download: file.name,
          "aria-label": `Download ${file.name}`,
          title: `Download ${file.name}`,
        },
        icon("download"),
      ),
    ),
    my.text !== null &&
      h(
        "pre",
        { class: "file-text", tabindex: "0", "aria-label": `Content of ${file.name}` },
        diffLines(shown(lines, my.open)),
      ),
    my.text !== null &&
      longer &&
      h(
        "button",
        { type: "button", class: "file-more", "aria-expanded": my.open, onclick: toggle },
        my.open ? "Show less" : `Show all ${lines.length} lines`,
      ),
    my.failed && h("p", { class: "hint" }, "Its content could not be loaded."),
  );
}

/** The file's address on this server, by whatever name the page itself was reached (localhost, 127.0.0.1). */
function addressOf(file) {
  const { pathname, search } = new URL(file.url ?? `/files/${file.id}`, location.href);
  return pathname + search;
}

const shown = (lines, open) => (open ? lines : lines.slice(0, PREVIEW_LINES)).join("\n");
const ending = (file) => file.name.split(".").at(-1).toLowerCase();
const isText = (file) =>
  file.size <= MOST_SHOWN &&
  (/^text\/|json|yaml|csv/.test(file.mimetype ?? "") || /^(json|csv|txt|diff|patch|md|ya?ml)$/.test(ending(file)));

function kindOf(file) {
  return (
    {
      json: "JSON",
      csv: "CSV",
      diff: "Diff",
      patch: "Diff",
      txt: "Plain text",
      md: "Markdown",
      yaml: "YAML",
      yml: "YAML",
    }[ending(file)] ??
    file.mimetype ??
    "File"
  );
}

function sizeOf(bytes) {
  return bytes < 1000
    ? `${bytes} bytes`
    : bytes < 1_000_000
      ? `${(bytes / 1000).toFixed(1)} kB`
      : `${(bytes / 1_000_000).toFixed(1)} MB`;
}

async function load(address, my) {
  my.text = ""; // asked for: once is enough
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(answer.status);
    my.text = (await answer.text()).replace(/\n$/, "");
  } catch {
    Object.assign(my, { text: null, failed: true });
  }
  changed();
}
