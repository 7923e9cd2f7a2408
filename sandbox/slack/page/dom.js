// A small virtual DOM. The page is drawn from the server's state again and again while people type, read and choose,
// so what is already there must stay the same element: focus, selection, scroll position and open lists live in it.

const SVG = "http://www.w3.org/2000/svg";
const drawn = new WeakMap(); // element → the virtual children it was last drawn from

/** Describe an element. Children may be strings, numbers, nested lists; null, undefined and booleans draw nothing. */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: flatten(children, "", []), place: props?.key, node: null };
}

/**
 * Make one list of nested ones. A child is known again by its key, or else by its place in the nested lists: one that
 * draws nothing keeps its place too, so that what follows stays what it is when it comes and goes.
 */
function flatten(children, path, into) {
  children.forEach((child, i) => {
    const place = `${path}.${i}`;
    if (Array.isArray(child)) flatten(child, place, into);
    else if (typeof child === "string" || typeof child === "number")
      into.push({ text: String(child), place, node: null });
    else if (child && typeof child === "object") into.push(Object.assign(child, { place: child.place ?? place }));
  });
  return into;
}

/** Make the children of `parent` what `children` describe, keeping every element that still has its place. */
export function patch(parent, ...children) {
  const mounted = [];
  patchChildren(parent, flatten(children, "", []), mounted);
  for (const [node, mount] of mounted) mount(node);
}

function patchChildren(parent, next, mounted) {
  const old = drawn.get(parent) ?? [];
  const pairs = pairUp(old, next);
  const kept = new Set(pairs.filter(Boolean));
  // What goes is taken out first: moving a kept element past it would cost that element its focus and scroll position.
  for (const gone of old) if (!kept.has(gone)) remove(gone);
  let cursor = parent.firstChild;
  next.forEach((child, i) => {
    if (pairs[i]) update(pairs[i], child, mounted);
    else create(child, parent.namespaceURI, mounted);
    if (child.node === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(child.node, cursor);
  });
  drawn.set(parent, next);
}

/** For each new child, the old one whose element it takes over: that of the same place and kind. */
function pairUp(old, next) {
  const known = new Map(old.map((v) => [v.place, v]));
  return next.map((child) => {
    const found = known.get(child.place);
    if (found?.tag !== child.tag) return undefined;
    known.delete(child.place); // a key used twice must not share one element
    return found;
  });
}

function create(v, namespace, mounted) {
  if (v.text !== undefined) {
    v.node = document.createTextNode(v.text);
    return;
  }
  v.node = document.createElementNS(v.tag === "svg" ? SVG : namespace, v.tag);
  for (const [name, value] of Object.entries(v.props)) setProp(v.node, name, value);
  patchChildren(v.node, v.children, mounted);
  if (v.props.mount) mounted.push([v.node, v.props.mount]);
}

function update(old, v, mounted) {
  v.node = old.node;
  if (v.text !== undefined) {
    if (old.text !== v.text) v.node.data = v.text;
    return;
  }
  for (const name of Object.keys(old.props)) if (!(name in v.props)) setProp(v.node, name, null);
  for (const [name, value] of Object.entries(v.props)) {
    if (LIVE.has(name) || old.props[name] !== value) setProp(v.node, name, value);
  }
  patchChildren(v.node, v.children, mounted);
}

function remove(v) {
  if (v.tag) unmount(v);
  v.node.remove();
}

function unmount(v) {
  v.props.unmount?.(v.node);
  for (const child of v.children) if (child.tag) unmount(child);
}

const LIVE = new Set(["value", "checked"]); // people change these behind our back
const OURS = new Set(["key", "mount", "unmount"]);

function setProp(node, name, value) {
  if (OURS.has(name)) return;
  if (LIVE.has(name)) {
    if (node[name] !== (value ?? "")) node[name] = value ?? "";
  } else if (name.startsWith("on")) {
    // A property, since the content security policy allows no inline handlers; and deaf to what the handler returns,
    // since a false would cancel the event.
    node[name] = value ? (event) => void value(event) : null;
  } else if (value === null || value === undefined || (value === false && !name.startsWith("aria-"))) {
    node.removeAttribute(name);
  } else {
    node.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : String(value));
  }
}
