// Small charts of the last hour, one column a minute. What they show is said in words as well.

import { NONE, counted, milliseconds, put, attr, svg } from './dom.js';

const MINUTES = 60;
const STEPS = 6;

/** Steps of ten seconds as minutes, the newest last; minutes before the first step are null. */
export function minutes(steps) {
  const out = new Array(MINUTES).fill(null);
  for (let at = 0; at < MINUTES; at += 1) {
    const end = steps.length - (MINUTES - 1 - at) * STEPS;
    const part = steps.slice(Math.max(0, end - STEPS), Math.max(0, end));
    if (!part.length) continue;
    const most = (key) => part.reduce((max, it) => (it[key] === null ? max : Math.max(max ?? 0, it[key])), null);
    out[at] = {
      calls: part.reduce((sum, it) => sum + it.calls, 0),
      errors: part.reduce((sum, it) => sum + it.errors, 0),
      p50: most('p50_ms'),
      p99: most('p99_ms'),
    };
  }
  return out;
}

function columns(data, width, height) {
  const max = Math.max(4, ...data.map((it) => it?.calls ?? 0));
  const wide = width / MINUTES;
  const paths = { calls: '', errors: '' };
  data.forEach((it, at) => {
    for (const key of ['calls', 'errors']) {
      const tall = it && it[key] > 0 ? Math.max(key === 'errors' ? 4 : 1.5, (it[key] / max) * height) : 0;
      if (tall) paths[key] += `M${(at * wide + wide / 2).toFixed(1)} ${height}v${(-tall).toFixed(1)}`;
    }
  });
  return { paths, max };
}

function line(data, key, width, height, max) {
  let path = '';
  let open = false;
  data.forEach((it, at) => {
    const value = it?.[key] ?? null;
    if (value === null) {
      open = false;
      return;
    }
    // By its logarithm: a millisecond and a minute are both to be seen.
    const tall = (Math.log10(1 + value) / Math.log10(1 + max)) * (height - 2);
    const point = `${((at + 0.5) * (width / MINUTES)).toFixed(1)} ${(height - 1 - tall).toFixed(1)}`;
    path += open ? `L${point}` : `M${point}h0.01`;
    open = true;
  });
  return path;
}

/** The calls of the last hour, for a row. */
export class Spark {
  constructor() {
    this.calls = svg('path', { class: 'calls' });
    this.errors = svg('path', { class: 'errors' });
    this.node = svg('svg', { class: 'spark', viewBox: '0 0 120 22', width: 120, height: 22, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('path', { class: 'base', d: 'M0 21.5h120' }), this.calls, this.errors);
  }

  draw(steps) {
    const { paths } = columns(minutes(steps), 120, 21);
    attr(this.calls, 'd', paths.calls || null);
    attr(this.errors, 'd', paths.errors || null);
  }
}

/** Calls and durations of the last hour, for an opened row. */
export class Charts {
  constructor() {
    this.parts = { calls: svg('path', { class: 'calls' }), errors: svg('path', { class: 'errors' }),
      p50: svg('path', { class: 'p50' }), p99: svg('path', { class: 'p99' }) };
    this.first = this.figure('Calls a minute', [['calls', 'calls'], ['errors', 'without an answer']]);
    this.second = this.figure('Durations', [['p50', 'p50'], ['p99', 'p99']]);
    const node = document.createElement('div');
    node.className = 'charts';
    node.append(this.first.node, this.second.node);
    this.node = node;
  }

  figure(title, keys) {
    const node = document.createElement('figure');
    const caption = document.createElement('figcaption');
    const words = document.createElement('span');
    const legend = keys.map(([key, text]) => {
      const mark = document.createElement('span');
      mark.className = `key ${key}`;
      mark.textContent = text;
      return mark;
    });
    const head = document.createElement('strong');
    head.textContent = title;
    caption.append(head, ...legend, words);
    const image = svg('svg', { viewBox: '0 0 360 64', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('path', { class: 'base', d: 'M0 63.5h360M0 32h360' }), ...keys.map(([key]) => this.parts[key]));
    const axis = document.createElement('p');
    axis.className = 'axis';
    axis.append(document.createElement('span'), document.createElement('span'));
    axis.firstChild.textContent = '1 h ago';
    axis.lastChild.textContent = 'now';
    node.append(caption, image, axis);
    return { node, words };
  }

  draw(steps) {
    const data = minutes(steps);
    const { paths, max } = columns(data, 360, 63);
    attr(this.parts.calls, 'd', paths.calls || null);
    attr(this.parts.errors, 'd', paths.errors || null);
    const sum = (key) => data.reduce((all, it) => all + (it?.[key] ?? 0), 0);
    put(this.first.words, sum('calls') ? `${counted(sum('calls'), 'call')}, ${sum('errors')} without an answer, at most ${max} a minute` : 'none in the last hour');
    const slowest = Math.max(0, ...data.map((it) => it?.p99 ?? 0));
    attr(this.parts.p50, 'd', line(data, 'p50', 360, 64, Math.max(10, slowest)) || null);
    attr(this.parts.p99, 'd', line(data, 'p99', 360, 64, Math.max(10, slowest)) || null);
    put(this.second.words, slowest ? `at most ${milliseconds(slowest)}` : NONE);
  }
}
