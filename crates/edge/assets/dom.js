// Elements, texts and numbers. Every text from outside becomes a text node here: nothing in this page parses HTML.

const SVG = 'http://www.w3.org/2000/svg';

/** An element. `props`: `class`, `text`, `on` (listeners), anything else is an attribute; null leaves it out. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === 'text') node.textContent = value;
    else if (key === 'on') for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** A sentence in which `quoted` parts are code. */
export function prose(text) {
  return text.split('`').map((part, at, all) => (at % 2 && at < all.length - 1 ? el('code', { text: part }) : at % 2 ? `\`${part}` : part));
}

/** Sets a text where it is another one: what did not change is not read out again, and costs no layout. */
export function put(node, text) {
  const wanted = text ?? '';
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function attr(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** Makes the children of `parent` those of `keys`, in this order, keeping every node that is there already. */
export function keyed(parent, nodes, keys, make) {
  const wanted = new Set(keys);
  for (const [key, node] of nodes) {
    if (!wanted.has(key)) {
      node.remove();
      nodes.delete(key);
    }
  }
  let at = parent.firstElementChild;
  for (const key of keys) {
    let node = nodes.get(key);
    if (!node) nodes.set(key, (node = make(key)));
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
}

/** A table with a head, whose cells keep their meaning when the style lays them out as cards. */
export function table(label, columns) {
  const head = columns.map(([text, kind]) => el('th', { scope: 'col', role: 'columnheader', class: kind, text }));
  const body = el('tbody', { role: 'rowgroup' });
  const node = el('table', { role: 'table', 'aria-label': label },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, head)), body);
  return { node, body };
}

export function cell(label, kind, ...children) {
  return el('td', { role: 'cell', class: kind, 'data-label': label }, ...children);
}

export const NONE = '–';

export function bytes(count) {
  if (count === null || count === undefined) return NONE;
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let unit = 0;
  while (count >= 1024 && unit < 3) {
    count /= 1024;
    unit += 1;
  }
  return `${unit > 0 && count < 10 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export function milliseconds(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1) return '<1 ms';
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`;
}

export function span(seconds) {
  seconds = Math.max(0, Math.floor(seconds));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

export function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Made once: to make one takes longer than to draw a row. */
const CLOCK = new Intl.DateTimeFormat([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });

export function clock(unixMs) {
  return CLOCK.format(unixMs);
}
