// All that is known of one server: what it is, what happened to it, what it said, and what can be done.

import { NONE, attr, bytes, clock, counted, el, prose, put } from './dom.js';
import { Charts } from './chart.js';

const lane = (it) => `${it.owner} ${it.state}${it.pid === null ? '' : ` (process ${it.pid})`}`;

export class Detail {
  constructor(name, { act, showTools }) {
    this.name = name;
    this.reason = el('p', { class: 'reason' });
    this.restart = button('Restart', () => act(name, 'restart', this.answer));
    this.pause = button('Pause', () => act(name, 'pause', this.answer));
    this.resume = button('Resume', () => act(name, 'resume', this.answer));
    this.login = button('Sign in', () => act(name, 'login', this.answer));
    this.logout = button('Sign out', () => act(name, 'logout', this.answer));
    this.tools = button('Its tools', () => showTools(name));
    this.answer = el('p', { class: 'answer', role: 'status' });
    this.facts = el('dl', { class: 'facts' });
    this.values = new Map();
    this.charts = new Charts();
    this.idle = el('p', { class: 'muted idle', text: 'No calls in the last hour.' });
    this.history = el('ol', { class: 'history' });
    this.complaints = part('Entries withheld or changed');
    this.losses = part('What clients cannot have');
    this.stderr = el('pre', { class: 'stderr', tabindex: '0', 'aria-label': `What ${name} wrote to standard error` });
    this.stderrNote = el('p', { class: 'muted' });
    this.stderrPart = el('section', {}, el('h4', { text: 'Standard error' }), this.stderrNote, this.stderr);
    this.node = el('div', { class: 'detail', role: 'region', 'aria-label': `Details of ${name}` },
      this.reason,
      el('div', { class: 'actions' }, this.restart, this.pause, this.resume, this.login, this.logout, this.tools, this.answer),
      this.facts, this.idle, this.charts.node,
      el('div', { class: 'columns' },
        el('section', {}, el('h4', { text: 'What happened' }), this.history), this.stderrPart,
        this.complaints.node, this.losses.node));
  }

  draw(server, steps) {
    const off = server.state === 'disabled' && !server.paused;
    const reason = off ? `${server.reason}; \`trunkline enable ${this.name}\` switches it on` : server.reason ?? '';
    if (this.told !== reason) this.reason.replaceChildren(...prose(this.told = reason));
    attr(this.reason, 'hidden', !reason);
    const on = document.activeElement;
    attr(this.restart, 'hidden', !server.enabled);
    attr(this.pause, 'hidden', !server.enabled);
    attr(this.resume, 'hidden', !server.paused);
    // Whoever pressed the one is on the other.
    if (on === this.pause && server.paused) this.resume.focus();
    if (on === this.resume && server.enabled) this.pause.focus();
    attr(this.login, 'hidden', !server.signs_in || server.signed_in);
    attr(this.logout, 'hidden', !server.signs_in || !server.signed_in);
    attr(this.tools, 'hidden', !server.tools);
    const usage = server.usage?.processes ? server.usage : null;
    this.fact('Offers', `${counted(server.tools, 'tool')}, ${counted(server.prompts, 'prompt')}, ${counted(server.resources, 'resource')}, ${counted(server.templates, 'template')}`);
    this.fact('Revision', server.revision ?? NONE);
    this.fact('Process', server.pid === null ? NONE : `${server.pid}${usage ? `, ${counted(usage.processes, 'process').replace('processs', 'processes')} in all` : ''}`);
    this.fact('Costs', usage ? `${bytes(usage.resident_bytes)}, ${usage.cpu_seconds.toFixed(1)} s of CPU, ${counted(usage.open_fds, 'descriptor')}` : NONE);
    this.fact('Reconnected', `${server.restarts} times`.replace(/^1 times/, 'once').replace(/^0 times/, 'never'));
    if (server.sharing !== 'shared') this.fact('Lanes', server.lanes.map(lane).join(', ') || `none, one for each ${server.sharing}`);
    if (server.get_stream) this.fact('Own stream', server.get_stream);
    this.charts.draw(steps);
    const idle = !steps.some((it) => it.calls || it.p50_ms !== null);
    attr(this.charts.node, 'hidden', idle);
    attr(this.idle, 'hidden', !idle);
    list(this.history, server.transitions, (it) => [
      el('time', { datetime: new Date(it.at_unix_ms).toISOString(), text: clock(it.at_unix_ms) }),
      el('span', { class: 'move', text: `${it.from} → ${it.to}` }), el('span', {}, prose(it.reason)),
    ], true);
    this.complaints.draw(server.complaints, (it) => [el('b', { text: it.what }), ` ${it.why}`]);
    this.losses.draw(server.losses.filter((it) => it.features.length), (it) => [
      el('b', { text: `${it.client} (${it.revision})` }), ` ${it.features.join(', ')}`,
    ]);
    const dropped = server.stderr_dropped_bytes;
    put(this.stderrNote, dropped ? `The last of it; ${bytes(dropped)} before are gone.` : '');
    attr(this.stderrNote, 'hidden', !dropped);
    attr(this.stderrPart, 'hidden', !server.stderr_tail);
    if (this.stderr.textContent !== server.stderr_tail) {
      const atEnd = this.stderr.scrollTop + this.stderr.clientHeight >= this.stderr.scrollHeight - 8;
      this.stderr.textContent = server.stderr_tail;
      if (atEnd) this.stderr.scrollTop = this.stderr.scrollHeight;
    }
  }

  fact(name, value) {
    let node = this.values.get(name);
    if (!node) {
      this.values.set(name, (node = el('dd')));
      this.facts.append(el('div', {}, el('dt', { text: name }), node));
    }
    put(node, value);
  }
}

function button(text, click) {
  return el('button', { type: 'button', text, on: { click } });
}

function part(title) {
  const items = el('ul');
  const node = el('section', {}, el('h4', { text: title }), items);
  return {
    node,
    draw(entries, make) {
      attr(node, 'hidden', !entries.length);
      list(items, entries, make);
    },
  };
}

const drawn = new WeakMap();

/** Draws a list anew if its entries are others. Nothing in it takes focus. */
function list(parent, entries, make, newestFirst = false) {
  const text = JSON.stringify(entries);
  if (drawn.get(parent) === text) return;
  drawn.set(parent, text);
  const items = entries.map((entry) => el('li', {}, make(entry)));
  parent.replaceChildren(...(newestFirst ? items.reverse() : items));
}
