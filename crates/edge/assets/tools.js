// The catalogue as clients see it, with search, and a place to try a tool.

import { NONE, attr, counted, el, keyed, milliseconds, put } from './dom.js';
import { Form } from './form.js';
import { get, post, state } from './store.js';

const SHOWN_MAX = 100;
const RESULT_CHARS_MAX = 200_000;

export class Tools {
  constructor(card, count) {
    this.count = count;
    this.tools = [];
    this.version = null;
    this.chosen = null;
    this.nodes = new Map();
    this.search = el('input', { type: 'search', id: 'tools-search', placeholder: 'Search tools', autocomplete: 'off', spellcheck: 'false', on: { input: () => this.list() } });
    this.server = el('select', { id: 'tools-server', on: { change: () => this.list() } }, el('option', { value: '', text: 'All servers' }));
    this.names = el('ul', { class: 'names', 'aria-label': 'Tools' });
    this.more = el('p', { class: 'muted pad', role: 'status' });
    this.panel = el('div', { class: 'try', role: 'region', 'aria-label': 'Try a tool' }, el('p', { class: 'none', text: 'Choose a tool to see what it takes, and to try it.' }));
    card.append(el('div', { class: 'browser' },
      el('div', { class: 'side' },
        el('div', { class: 'filters' },
          el('label', { for: 'tools-search', class: 'unseen', text: 'Search tools' }), this.search,
          el('label', { for: 'tools-server', class: 'unseen', text: 'Server' }), this.server),
        this.names, this.more),
      this.panel));
  }

  /** Fetches the catalogue if it is another one. */
  async draw() {
    const version = state.top.catalog_version;
    if (!state.loaded || this.fetching || this.version === version) return;
    this.fetching = true;
    try {
      const answer = await get('/api/v1/tools');
      this.tools = answer.tools;
      this.version = version;
      this.servers();
      this.list();
    } catch {
      // The stream is gone as well, and its return brings this back.
    } finally {
      this.fetching = false;
    }
  }

  /** Shows the tools of a server. */
  show(server) {
    this.search.value = '';
    this.server.value = server;
    this.list();
    this.search.focus();
    this.search.scrollIntoView({ block: 'center' });
  }

  servers() {
    const names = [...new Set(this.tools.map((it) => it.server))];
    const known = [...this.server.options].slice(1).map((it) => it.value);
    if (names.join('\n') === known.join('\n')) return;
    const chosen = this.server.value;
    this.server.replaceChildren(el('option', { value: '', text: 'All servers' }), ...names.map((name) => el('option', { value: name, text: name })));
    this.server.value = names.includes(chosen) ? chosen : '';
  }

  list() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (it) => {
      const text = `${it.name} ${it.tool.title ?? ''} ${it.tool.description ?? ''}`.toLowerCase();
      return (!this.server.value || it.server === this.server.value) && words.every((word) => text.includes(word));
    };
    const found = this.tools.filter(fits);
    const shown = new Map(found.slice(0, SHOWN_MAX).map((it) => [JSON.stringify([it.name, it.tool.title]), it]));
    keyed(this.names, this.nodes, [...shown.keys()], (key) => {
      const it = shown.get(key);
      const title = typeof it.tool.title === 'string' ? it.tool.title : '';
      return el('li', {}, el('button', { type: 'button', class: 'tool', 'data-name': it.name, on: { click: () => this.choose(it.name, true) } },
        el('code', { text: it.name }), title ? el('span', { class: 'sub', text: title }) : null));
    });
    this.mark();
    put(this.more, found.length > SHOWN_MAX ? `${found.length - SHOWN_MAX} more; search for them.` : found.length ? '' : this.tools.length ? 'No tool has these words.' : 'No server offers tools yet.');
    put(this.count, found.length === this.tools.length ? String(found.length) : `${found.length} of ${this.tools.length}`);
  }

  mark() {
    for (const node of this.names.querySelectorAll('button')) attr(node, 'aria-current', node.dataset.name === this.chosen ? 'true' : null);
  }

  choose(name, focus) {
    const it = this.tools.find((tool) => tool.name === name);
    if (!it) return;
    this.chosen = name;
    this.mark();
    const trial = new Trial(it);
    this.panel.replaceChildren(trial.node);
    if (focus) trial.heading.focus({ preventScroll: !matchMedia('(max-width: 760px)').matches });
  }
}

const HINTS = [['readOnlyHint', true, 'reads only'], ['destructiveHint', true, 'may destroy'], ['idempotentHint', true, 'may be repeated'], ['openWorldHint', true, 'reaches outside']];

class Trial {
  constructor({ name, server, tool }) {
    this.name = name;
    this.heading = el('h3', { tabindex: '-1' }, el('code', { text: name }));
    this.form = new Form(tool.inputSchema);
    this.run = el('button', { type: 'submit', class: 'strong', text: 'Call' });
    this.stop = el('button', { type: 'button', text: 'Give up', hidden: true, on: { click: () => this.abort?.abort() } });
    this.status = el('p', { class: 'answer', role: 'status' });
    this.result = el('pre', { class: 'result', tabindex: '0', hidden: true, 'aria-label': 'The result' });
    this.whole = el('pre', { class: 'result', tabindex: '0', 'aria-label': 'The result as JSON' });
    this.details = el('details', { hidden: true }, el('summary', { text: 'As JSON' }), this.whole);
    const hints = tool.annotations && typeof tool.annotations === 'object' ? HINTS.filter(([key, value]) => tool.annotations[key] === value) : [];
    this.node = el('form', { novalidate: true, on: { submit: (event) => { event.preventDefault(); this.call(); } } },
      this.heading,
      el('p', { class: 'muted' }, typeof tool.title === 'string' ? `${tool.title} · ` : '', `server ${server}`, hints.map(([, , text]) => [' · ', text])),
      typeof tool.description === 'string' ? el('p', { class: 'prose', text: tool.description }) : null,
      this.form.node,
      el('div', { class: 'actions' }, this.run, this.stop, this.form.fields.length ? this.form.switch : null, this.status),
      this.result, this.details,
      el('details', {}, el('summary', { text: 'What it takes, as JSON schema' }), el('pre', { class: 'result', tabindex: '0', 'aria-label': 'The schema', text: JSON.stringify(tool.inputSchema ?? null, null, 2) })));
  }

  async call() {
    const { value, wrong } = this.form.read();
    if (wrong) {
      put(this.status, 'Mend what is marked.');
      return wrong.focus();
    }
    this.abort = new AbortController();
    const began = performance.now();
    attr(this.run, 'disabled', true);
    attr(this.stop, 'hidden', false);
    put(this.status, 'Waiting for the server');
    try {
      const answer = await post('/api/v1/call', { name: this.name, arguments: value }, this.abort.signal);
      this.show(answer, performance.now() - began);
    } catch (error) {
      put(this.status, error.name === 'AbortError' ? 'Given up; the server was told.' : error.message);
    } finally {
      attr(this.run, 'disabled', false);
      attr(this.stop, 'hidden', true);
    }
  }

  show(answer, took) {
    const { result, error } = answer;
    const content = Array.isArray(result?.content) ? result.content : [];
    const texts = content.map((it) => (it?.type === 'text' ? String(it.text) : `[${it?.type ?? 'something'}${it?.mimeType ? `, ${it.mimeType}` : ''}]`));
    const failed = Boolean(error) || result?.isError === true;
    put(this.status, `${failed ? 'Failed' : 'Answered'} after ${milliseconds(took)}${content.length > 1 ? `, ${counted(content.length, 'part')}` : ''}`);
    this.result.classList.toggle('is-bad', failed);
    put(this.result, cut(error ? String(error.message ?? JSON.stringify(error)) : texts.join('\n') || NONE));
    put(this.whole, cut(JSON.stringify(error ?? result, null, 2)));
    attr(this.result, 'hidden', false);
    attr(this.details, 'hidden', false);
  }
}

function cut(text) {
  return text.length > RESULT_CHARS_MAX ? `${text.slice(0, RESULT_CHARS_MAX)}\n… ${text.length - RESULT_CHARS_MAX} characters more` : text;
}
