// Who is connected, which calls were made, what is wrong, and the daemon in numbers.

import { NONE, attr, bytes, cell, clock, el, keyed, milliseconds, prose, put, span, table } from './dom.js';
import { now, state } from './store.js';

const WAYS = { session: 'session', sse: 'SSE', stateless: 'each request' };

export class Clients {
  constructor(card, count) {
    this.count = count;
    const { node, body } = table('Clients', [
      ['Client', 'name'], ['Version', ''], ['Revision', ''], ['By', ''], ['Process', ''], ['Sees', ''], ['In flight', 'num'], ['Streams', 'num'], ['Here for', 'num'], ['Last heard', 'num'],
    ]);
    Object.assign(this, { node, body, nodes: new Map(), rows: new Map() });
    this.none = el('p', { class: 'none', text: 'Nobody is connected. Point a client at the address above.' });
    card.append(node, this.none);
  }

  draw() {
    const clients = state.top.clients ?? [];
    keyed(this.body, this.nodes, clients.map((it) => it.label), (label) => {
      const cells = [cell('Client', 'name'), cell('Version'), cell('Revision'), cell('By'), cell('Process'), cell('Sees'), cell('In flight', 'num'), cell('Streams', 'num'), cell('Here for', 'num'), cell('Last heard', 'num')];
      this.rows.set(label, cells);
      return el('tr', { role: 'row' }, cells);
    });
    for (const it of clients) {
      const texts = [it.name || '(unnamed)', it.version || NONE, it.revision, WAYS[it.by], it.pid === null ? NONE : `${it.program} ${it.pid}`, it.profile === null ? 'everything' : it.profile, it.in_flight === null ? NONE : String(it.in_flight), String(it.streams)];
      texts.forEach((text, at) => put(this.rows.get(it.label)[at], text));
    }
    attr(this.node, 'hidden', !clients.length);
    attr(this.none, 'hidden', clients.length > 0);
    const all = (state.top.sessions ?? 0) + clients.filter((it) => it.by === 'stateless').length;
    put(this.count, clients.length < all ? `${all}, the last ${clients.length} shown` : String(all));
    this.tick();
  }

  tick() {
    for (const it of state.top.clients ?? []) {
      const cells = this.rows.get(it.label);
      if (!cells) continue;
      put(cells[8], span((now() - it.since_unix_ms) / 1000));
      const idle = (now() - it.heard_unix_ms) / 1000;
      put(cells[9], idle < 10 ? 'just now' : `${span(idle)} ago`);
    }
  }
}

/** Parts of what is there, each at an address of its own. Without any the section is not there. */
export class Profiles {
  constructor(section, card, count) {
    const { node, body } = table('Profiles', [['Profile', 'name'], ['Address', ''], ['Servers', ''], ['Tools', 'num'], ['Prompts', 'num']]);
    Object.assign(this, { section, count, body, nodes: new Map(), rows: new Map() });
    card.append(node);
  }

  draw() {
    const profiles = state.top.profiles ?? [];
    attr(this.section, 'hidden', !profiles.length);
    keyed(this.body, this.nodes, profiles.map((it) => it.name), (name) => {
      const cells = [cell('Profile', 'name'), cell('Address', 'address'), cell('Servers', 'servers'), cell('Tools', 'num'), cell('Prompts', 'num')];
      this.rows.set(name, cells);
      return el('tr', { role: 'row' }, cells);
    });
    for (const it of profiles) {
      const base = (state.top.listen ?? []).find((url) => url.includes('127.0.0.1')) ?? state.top.listen?.[0] ?? '/mcp';
      const texts = [it.name, `${base}/${it.name}`, it.servers.join(', ') || NONE, String(it.tools), String(it.prompts)];
      texts.forEach((text, at) => put(this.rows.get(it.name)[at], text));
    }
    put(this.count, String(profiles.length));
  }
}

const OUTCOMES = { ok: ['Answered', 'good'], error: ['Refused', 'warn'], fault: ['No answer', 'bad'], input: ['Asks back', 'busy'] };

/** How often the calls are drawn anew: with the figures, which come a second apart, and not with the news between them. */
const CALLS_EVERY_MS = 900;
/** Rows that are there before anybody scrolls to the others: more than there is room for. */
const CALLS_AT_TOP = 20;

/** The last calls. A row is a place and not a call: it gets other texts, and nothing is made or moved. Whoever scrolls into them
 * has them stand still. */
export class Calls {
  constructor(card, count) {
    this.count = count;
    const { node, body } = table('Last calls', [
      ['Time', ''], ['Client', ''], ['Tool', 'name'], ['Outcome', ''], ['Took', 'num'], ['Sent', 'num'], ['Received', 'num'],
    ]);
    Object.assign(this, { node, body, rows: [], newest: -1, drawn: -CALLS_EVERY_MS, held: false });
    this.frame = el('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': 'Last calls', on: { scroll: () => this.hold() } }, node);
    this.none = el('p', { class: 'none', text: 'No calls yet. Try a tool above. What is said in a call is never kept.' });
    card.append(this.frame, this.none);
    this.inView = false;
    this.tick = this.draw;
    new IntersectionObserver(([{ isIntersecting }]) => {
      this.inView = isIntersecting;
      if (isIntersecting) this.draw();
    }, { rootMargin: '200px' }).observe(card);
  }

  draw() {
    // A busy daemon has something new twice a second; who does not look at it need not pay for it, and nobody reads faster.
    if (!this.inView || this.held || performance.now() - this.drawn < CALLS_EVERY_MS) return;
    const { calls } = state;
    attr(this.frame, 'hidden', !calls.length);
    attr(this.none, 'hidden', calls.length > 0);
    if (calls.length && calls[0].number === this.newest) return;
    this.newest = calls.length ? calls[0].number : -1;
    this.drawn = performance.now();
    put(this.count, calls.length ? String(calls.length) : '');
    this.fill(calls.slice(0, CALLS_AT_TOP));
  }

  hold() {
    const held = this.frame.scrollTop > 0;
    if (held === this.held) return;
    this.held = held;
    if (held) {
      this.fill(state.calls);
      put(this.count, `${state.calls.length}, which stand still until you are back at the top`);
    } else {
      Object.assign(this, { newest: -1, drawn: -CALLS_EVERY_MS });
      this.draw();
    }
  }

  fill(calls) {
    while (this.rows.length > calls.length) this.rows.pop().node.remove();
    calls.forEach((it, at) => {
      if (at === this.rows.length) {
        this.rows.push(new Call());
        this.body.append(this.rows[at].node);
      }
      this.rows[at].draw(it);
    });
  }
}

class Call {
  constructor() {
    this.time = el('time');
    this.client = cell('Client', '');
    this.tool = el('code');
    this.word = el('span');
    this.outcome = el('span', { class: 'state' }, el('span', { class: 'dot', 'aria-hidden': 'true' }), this.word);
    this.numbers = [cell('Took', 'num'), cell('Sent', 'num'), cell('Received', 'num')];
    this.node = el('tr', { role: 'row' }, cell('Time', '', this.time), this.client, cell('Tool', 'name', this.tool), cell('Outcome', '', this.outcome), this.numbers);
  }

  draw(it) {
    const [word, kind] = OUTCOMES[it.outcome] ?? [it.outcome, 'off'];
    const texts = [milliseconds(it.micros / 1000), bytes(it.sent_bytes), bytes(it.received_bytes)];
    attr(this.time, 'datetime', new Date(it.at_unix_ms).toISOString());
    put(this.time, clock(it.at_unix_ms));
    put(this.client, it.client ?? 'owner');
    put(this.tool, it.tool);
    put(this.word, word);
    attr(this.outcome, 'class', `state is-${kind}`);
    texts.forEach((text, at) => put(this.numbers[at], text));
  }
}

export class Wrong {
  constructor(section, list, { act, show }) {
    Object.assign(this, { section, list, act, show, nodes: new Map() });
  }

  draw() {
    const wrong = state.top.wrong ?? [];
    attr(this.section, 'hidden', !wrong.length);
    const by = new Map(wrong.map((it) => [JSON.stringify(it), it]));
    const focused = document.activeElement?.closest?.('#wrong-list li')?.dataset.of;
    keyed(this.list, this.nodes, [...by.keys()], (key) => this.item(by.get(key)));
    // What is said of a server may change under the hand of whoever was there.
    if (focused && !this.list.contains(document.activeElement)) {
      [...this.list.children].find((it) => it.dataset.of === focused)?.querySelector('button')?.focus();
    }
  }

  item(it) {
    const answer = el('p', { class: 'answer', role: 'status' });
    const buttons = [];
    if (it.action) {
      const text = { login: 'Sign in', restart: 'Restart' }[it.action];
      buttons.push(el('button', { type: 'button', 'aria-label': `${text}: ${it.server}`, text, on: { click: () => this.act(it.server, it.action, answer) } }));
    }
    if (it.server) buttons.push(el('button', { type: 'button', class: 'quiet', 'aria-label': `Show ${it.server}`, text: 'Show', on: { click: () => this.show(it.server) } }));
    return el('li', { class: `is-${it.level}`, 'data-of': it.server ?? '' },
      el('div', {}, el('p', { class: 'says' }, it.server ? el('b', { text: it.server }) : null, it.server ? ' ' : null, prose(it.says)),
        el('p', { class: 'advice' }, prose(it.advice)), answer),
      el('div', { class: 'actions' }, it.command ? el('code', { class: 'command', text: it.command }) : null, buttons));
  }
}

export class Facts {
  constructor(list) {
    this.list = list;
    this.values = new Map();
  }

  draw() {
    const { top } = state;
    if (!state.loaded) return;
    this.fact('Address', (top.listen ?? []).find((it) => it.includes('127.0.0.1')) ?? top.listen?.[0] ?? NONE, 'wide');
    this.fact('Sessions', String(top.sessions));
    this.fact('In flight', String(top.in_flight));
    this.fact('Memory', bytes(top.resident_bytes));
    this.fact('Version', top.version);
    this.tick();
    this.fact('Configuration', top.config?.path ?? 'none: all at its default', 'wide');
  }

  tick() {
    if (state.loaded) this.fact('Up', span((now() - state.top.started_unix_ms) / 1000));
  }

  fact(name, value, kind) {
    let node = this.values.get(name);
    if (!node) {
      this.values.set(name, (node = el('dd')));
      this.list.append(el('div', { class: kind }, el('dt', { text: name }), node));
    }
    put(node, value);
    attr(node, 'title', value.length > 40 ? value : null);
  }
}

