// The servers as rows of a table, each of which opens to all that is known of it. Rows and their cells are made once and
// then only get other texts, so that focus, selection and scroll stay where they are.

import { NONE, attr, bytes, cell, el, keyed, milliseconds, put, span, table } from './dom.js';
import { Spark } from './chart.js';
import { Detail } from './detail.js';
import { now, state } from './store.js';

/** Words and colours of the states. */
const STATES = {
  ready: ['Ready', 'good'],
  idle: ['Asleep', 'off'],
  disabled: ['Off', 'off'],
  starting: ['Starting', 'busy'],
  handshake: ['Starting', 'busy'],
  suspect: ['Silent', 'warn'],
  backoff: ['Reconnecting', 'warn'],
  probing: ['Trying again', 'warn'],
  open: ['Left alone', 'bad'],
  needs_auth: ['Needs sign-in', 'auth'],
  misconfigured: ['Misconfigured', 'bad'],
  draining: ['Stopping', 'off'],
  stopped: ['Stopped', 'off'],
};

export function stateWord(server) {
  if (server.paused) return [server.state === 'draining' ? 'Pausing' : 'Paused', 'off'];
  if (server.state === 'needs_auth' && !server.signs_in) return ['Key refused', 'auth'];
  return STATES[server.state] ?? [server.state, 'off'];
}

export class Servers {
  /** `act` does something to a server; `changed` is told of changes of state, in words. */
  constructor(card, count, { act, changed, showTools }) {
    Object.assign(this, { count, act, changed, showTools });
    this.rows = new Map();
    this.nodes = new Map();
    const { node, body } = table('Servers', [
      ['Server', 'name'], ['State', 'state'], ['Via', 'via'], ['Revision', 'revision'], ['Tools', 'num'],
      ['Last hour', 'trend'], ['Calls/min', 'num'], ['p50', 'num'], ['p99', 'num'], ['Errors', 'num'],
      ['In flight', 'num'], ['Memory', 'num'], ['CPU', 'num'], ['For', 'num'],
    ]);
    this.body = body;
    this.none = el('p', { class: 'none', text: 'No servers are configured. Add a [mcp_servers.NAME] block to the configuration; it is taken up by itself.', hidden: true });
    this.node = node;
    card.append(node, this.none);
  }

  draw() {
    const names = [...state.servers.keys()];
    const keys = names.flatMap((name) => [`row ${name}`, `more ${name}`]);
    for (const name of this.rows.keys()) if (!state.servers.has(name)) this.rows.delete(name);
    keyed(this.body, this.nodes, keys, (key) => {
      const name = key.slice(key.indexOf(' ') + 1);
      let row = this.rows.get(name);
      if (!row) this.rows.set(name, (row = new Row(name, this)));
      return key.startsWith('row') ? row.node : row.more;
    });
    let ready = 0;
    for (const [name, server] of state.servers) {
      ready += server.state === 'ready';
      this.rows.get(name).draw(server);
    }
    attr(this.node, 'hidden', !names.length);
    attr(this.none, 'hidden', names.length > 0 || !state.loaded);
    put(this.count, state.loaded ? `${ready} of ${names.length} ready` : '');
  }

  tick() {
    for (const [name, row] of this.rows) if (state.servers.has(name)) row.tick(state.servers.get(name));
  }

  /** Opens a server's row and goes there. */
  show(name) {
    const row = this.rows.get(name);
    if (!row) return;
    row.open(true);
    row.button.focus();
    row.node.scrollIntoView({ block: 'center' });
  }
}

let ids = 0;

class Row {
  constructor(name, all) {
    this.name = name;
    this.all = all;
    this.id = `server-${(ids += 1)}`;
    this.identity = el('span', { class: 'sub' });
    this.button = el('button', { type: 'button', class: 'open', 'aria-expanded': 'false', 'aria-controls': this.id, on: { click: () => this.open(this.more.hidden) } },
      el('span', { class: 'tri', 'aria-hidden': 'true' }), el('span', { class: 'title', text: name }));
    this.word = el('span', { class: 'word' });
    this.state = el('span', { class: 'state' }, el('span', { class: 'dot', 'aria-hidden': 'true' }), this.word);
    this.retry = el('span', { class: 'sub' });
    this.spark = new Spark();
    const num = (label) => cell(label, 'num');
    this.cells = {
      via: cell('Via', 'via'), revision: cell('Revision', 'revision'), tools: num('Tools'), calls: num('Calls/min'),
      p50: num('p50'), p99: num('p99'), errors: num('Errors'), flight: num('In flight'), memory: num('Memory'), cpu: num('CPU'),
      since: num('For'),
    };
    const c = this.cells;
    this.node = el('tr', { role: 'row', class: 'server' },
      cell('Server', 'name', this.button, this.identity), cell('State', 'state', this.state, this.retry),
      c.via, c.revision, c.tools, cell('Last hour', 'trend', this.spark.node), c.calls, c.p50, c.p99, c.errors, c.flight, c.memory, c.cpu, c.since);
    this.place = el('td', { role: 'cell', colspan: '14' });
    this.more = el('tr', { role: 'row', class: 'more', id: this.id, hidden: true }, this.place);
  }

  open(open) {
    attr(this.more, 'hidden', !open);
    attr(this.button, 'aria-expanded', open);
    this.node.classList.toggle('is-open', open);
    if (open && !this.detail) {
      this.detail = new Detail(this.name, this.all);
      this.place.append(this.detail.node);
    }
    if (open) this.drawDetail(state.servers.get(this.name));
  }

  draw(server) {
    const [word, kind] = stateWord(server);
    if (this.told !== undefined && this.told !== word) this.all.changed(`${this.name}: ${word}`);
    this.told = word;
    put(this.word, word);
    attr(this.state, 'class', `state is-${kind}`);
    const who = server.identity;
    put(this.identity, who?.name && who.name !== this.name ? `${who.name}${who.version ? ` ${who.version}` : ''}` : who?.version ?? '');
    const c = this.cells;
    put(c.via, server.transport ?? server.kind);
    put(c.revision, server.revision ?? NONE);
    put(c.tools, `${server.tools}${server.stale && server.tools ? '*' : ''}`);
    attr(c.tools, 'title', server.stale && server.tools ? 'as an earlier connection listed them' : null);
    put(c.calls, String(server.lately.calls_per_minute));
    put(c.p50, milliseconds(server.lately.p50_ms));
    put(c.p99, milliseconds(server.lately.p99_ms));
    put(c.errors, String(server.lately.errors));
    c.errors.classList.toggle('is-bad', server.lately.errors > 0);
    put(c.flight, String(server.in_flight));
    const usage = server.usage?.processes ? server.usage : null;
    put(c.memory, bytes(usage?.resident_bytes));
    const share = usage?.cpu_percent;
    put(c.cpu, share === null || share === undefined ? NONE : `${share.toFixed(share < 10 ? 1 : 0)} %`);
    const steps = state.history.get(this.name) ?? [];
    if (this.steps !== steps || this.step !== state.top.step) {
      this.spark.draw(steps);
      Object.assign(this, { steps, step: state.top.step });
    }
    this.node.classList.toggle('is-quiet', server.state !== 'ready' && !steps.some((it) => it.calls));
    this.tick(server);
    if (!this.more.hidden) this.drawDetail(server);
  }

  drawDetail(server) {
    this.detail.draw(server, state.history.get(this.name) ?? []);
  }

  tick(server) {
    put(this.cells.since, span((now() - server.since_unix_ms) / 1000));
    const wait = server.retry_at_unix_ms === null ? null : (server.retry_at_unix_ms - now()) / 1000;
    const waiting = wait !== null && server.state !== 'ready';
    put(this.retry, waiting ? (wait > 0 ? `next try in ${span(Math.ceil(wait))}` : 'trying now') : '');
  }
}

