// Line icons on a 20 by 20 grid, drawn as SVG so that they take the colour of the text around them.
import { h } from "./dom.js";

const PATHS = {
  apps: "M4 4h4v4H4zM12 4h4v4h-4zM4 12h4v4H4zM12 12h4v4h-4z",
  back: "M12 4l-6 6 6 6",
  bolt: "M11 2.5L4.5 11.5H9.5L9 17.5L15.5 8.5H10.5z",
  check: "M4 10.5l4 4 8-9",
  chevron: "M5 8l5 5 5-5",
  close: "M5 5l10 10M15 5L5 15",
  download: "M10 3v9M6 9l4 4 4-4M4 16.5h12",
  eye: "M2 10s3-5 8-5 8 5 8 5-3 5-8 5-8-5-8-5zM10 12a2 2 0 100-4 2 2 0 000 4z",
  file: "M5 2.5h6l4 4v11H5zM11 2.5v4h4",
  hash: "M8 3L6 17M14 3l-2 14M3.5 7.5h14M2.5 12.5h14",
  help: "M7.5 7.5a2.5 2.5 0 113.5 2.3c-.7.3-1 .8-1 1.7M10 14.5v.1M10 18a8 8 0 100-16 8 8 0 000 16z",
  home: "M3 9.5L10 3.5l7 6M5 8.5v8h10v-8",
  menu: "M3 5.5h14M3 10h14M3 14.5h14",
  more: "M10 4.5v.01M10 10v.01M10 15.5v.01",
  reply: "M3.5 4.5h13v9h-7l-3.5 3v-3h-2.5z",
  send: "M3.5 3.5L17 10 3.5 16.5 5.5 10zM5.5 10H11",
  warn: "M10 3l7.5 13.5h-15zM10 8v4M10 14.2v.1",
};

/** Return an icon; it says nothing to a screen reader, so the control around it needs a label. */
export function icon(name, size = 18) {
  return h(
    "svg",
    {
      class: `icon icon-${name}`,
      viewBox: "0 0 20 20",
      width: size,
      height: size,
      fill: "none",
      stroke: "currentColor",
      "stroke-width": name === "more" ? 2.6 : 1.7,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
      "aria-hidden": "true",
      focusable: "false",
    },
    h("path", { d: PATHS[name] }),
  );
}
