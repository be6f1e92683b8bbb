// A tree of plain values, and the smallest change of the document that shows it.
//
// Every text becomes a text node, so a node that calls itself "<img onerror=...>" is shown, not run.
// What is on the screen is changed in place: focus, scroll positions and half-typed answers survive
// the next event of the stream.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "open", "selected", "hidden", "readOnly", "indeterminate"]);

/** A node of the tree. Children may be values, trees, lists of them; null, undefined and booleans show nothing. */
export function h(tag, props, ...children) {
  const given = props ?? {};
  return { tag, props: given, key: given.key ?? null, children: flat(children), element: null };
}

function flat(children, into = []) {
  for (const child of children) {
    if (child === null || child === undefined || child === true || child === false) continue;
    if (Array.isArray(child)) flat(child, into);
    else if (typeof child === "object") into.push(child);
    else into.push({ tag: "", text: String(child), key: null, element: null });
  }
  return into;
}

/** Shows `tree` (a list) as the children of `parent`; `before` is what the last call returned. */
export function render(parent, tree, before = []) {
  const now = flat([tree]);
  reconcile(parent, before, now, false);
  return now;
}

function reconcile(parent, before, now, svg) {
  const keyed = new Map();
  const plain = [];
  for (const old of before) {
    if (old.key !== null) keyed.set(old.key, old);
    else plain.push(old);
  }
  let next = 0;
  let place = parent.firstChild;
  for (const node of now) {
    let old = null;
    if (node.key !== null) {
      old = keyed.get(node.key) ?? null;
      if (old && old.tag === node.tag) keyed.delete(node.key);
      else old = null;
    } else {
      while (next < plain.length && plain[next].tag !== node.tag) drop(parent, plain[next++], (gone) => { if (place === gone) place = gone.nextSibling; });
      old = plain[next++] ?? null;
    }
    if (old) update(old, node, svg);
    else create(node, svg);
    if (node.element === place) place = place.nextSibling;
    else parent.insertBefore(node.element, place);
  }
  for (; next < plain.length; next++) drop(parent, plain[next]);
  for (const old of keyed.values()) drop(parent, old);
}

function drop(parent, node, before) {
  before?.(node.element);
  unmeasure(node);
  node.element.remove();
}

function create(node, svg) {
  if (node.tag === "") {
    node.element = document.createTextNode(node.text);
    return;
  }
  const inside = svg || node.tag === "svg";
  node.element = inside ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag);
  node.element.handlers = {};
  reconcile(node.element, [], node.children, inside);
  for (const [name, value] of Object.entries(node.props)) set(node.element, name, undefined, value);
  node.props.created?.(node.element);
}

function update(old, node, svg) {
  node.element = old.element;
  if (node.tag === "") {
    if (old.text !== node.text) node.element.data = node.text;
    return;
  }
  reconcile(node.element, old.children, node.children, svg || node.tag === "svg");
  for (const name of Object.keys(old.props)) if (!(name in node.props)) set(node.element, name, old.props[name], undefined);
  for (const [name, value] of Object.entries(node.props)) if (old.props[name] !== value) set(node.element, name, old.props[name], value);
}

function set(element, name, before, value) {
  if (name === "key" || name === "created") return;
  if (name === "measure") {
    if (before === undefined && value) measure(element, value);
    else if (value) watched.set(element, value);
  } else if (name.startsWith("on")) {
    const kind = name.slice(2);
    if (!(kind in element.handlers)) element.addEventListener(kind, (event) => element.handlers[kind]?.(event));
    element.handlers[kind] = value;
  } else if (name === "style") {
    for (const key of Object.keys(before ?? {})) if (!(key in (value ?? {}))) element.style.removeProperty(key);
    for (const [key, text] of Object.entries(value ?? {})) if (before?.[key] !== text) element.style.setProperty(key, text);
  } else if (PROPERTIES.has(name)) {
    element[name] = value ?? (typeof element[name] === "boolean" ? false : "");
  } else if (value === undefined || value === null || value === false) {
    element.removeAttribute(name);
  } else {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

// ---- widths, so that drawings keep the size of their letters on every screen

const watched = new Map();
const observer = new ResizeObserver((entries) => {
  for (const entry of entries) watched.get(entry.target)?.(Math.round(entry.contentRect.width));
});

function measure(element, told) {
  watched.set(element, told);
  observer.observe(element);
}

function unmeasure(node) {
  if (node.tag === "") return;
  if (watched.delete(node.element)) observer.unobserve(node.element);
  for (const child of node.children) unmeasure(child);
}
