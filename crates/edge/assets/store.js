// What the daemon says, kept current: everything once, then what changed, by one stream of events that comes back by
// itself. The last hour is fetched once and goes on with the last step of each server.

const RETRY_MS = 2000;
/** The daemon says something every 15 s. */
const SILENCE_MAX_MS = 45_000;
const STEPS_MAX = 360;

/** `top`, `servers` (by name, in order), `calls` (newest first), `history` (steps by server, oldest first). */
export const state = { top: {}, servers: new Map(), calls: [], history: new Map(), loaded: false };

/** `connecting`, `live`, `locked` (a token is wanted) or `away`, since `since`, with a reason if one is known. */
export const link = { is: 'connecting', since: Date.now(), why: '' };

let listeners = [];
let pending = false;
let dirty = false;
let skew = 0;

/** Calls `listener` after changes: of states at once, of figures once a second. */
export function watch(listener) {
  listeners.push(listener);
}

/** Whether figures have changed since this was asked last. */
export function stirred() {
  const was = dirty;
  dirty = false;
  return was;
}

/** Now, by the daemon's clock. */
export function now() {
  return Date.now() + skew;
}

function changed() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    dirty = false;
    for (const listener of listeners) listener();
  });
}

function set(is, why = '') {
  if (link.is !== is) link.since = Date.now();
  link.is = is;
  link.why = why;
  changed();
}

let token = '';
try {
  token = sessionStorage.getItem('token') ?? '';
} catch {
  // Then it is asked for once for each time that the page is loaded.
}

/** Shows this token from now on. It is kept for this tab alone. */
export function show(wanted) {
  token = wanted.trim();
  try {
    sessionStorage.setItem('token', token);
  } catch {
    // It holds until the page is closed.
  }
  wake?.();
}

function headers(more = {}) {
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

export async function get(path) {
  const answer = await fetch(path, { headers: headers() });
  if (!answer.ok) throw new Error(`the daemon answered ${answer.status}`);
  return answer.json();
}

let wake = null;

/** Follows the daemon for as long as the page is open. */
export async function connect() {
  for (let retry = RETRY_MS; ; ) {
    try {
      const stop = new AbortController();
      const answer = await fetch('/api/v1/events', { headers: headers({ Accept: 'text/event-stream' }), signal: stop.signal });
      if (answer.ok) retry = await follow(answer.body, stop);
      if (answer.ok) set('away');
      else if (answer.status === 401) set('locked', token ? 'that token is none of `auth.tokens`' : '');
      else if (answer.status === 403 && token) set('locked', sentence(await answer.text()));
      else set('away', sentence(await answer.text()) || `it answers ${answer.status}`);
    } catch {
      set('away');
    }
    // Whoever is asked for a token comes back with one.
    await new Promise((resolve) => {
      wake = resolve;
      if (link.is !== 'locked') setTimeout(resolve, retry);
    });
    wake = null;
  }
}

function sentence(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return text.trim();
  }
}

/** Takes events until the stream ends. Returns how long to wait before the next one is opened. */
async function follow(body, stop) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let retry = RETRY_MS;
  for (;;) {
    const silence = setTimeout(() => stop.abort(), SILENCE_MAX_MS);
    const { value, done } = await reader.read();
    clearTimeout(silence);
    if (done) return retry;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]));
      if (fields.retry) retry = Number(fields.retry);
      if (fields.event === 'state') whole(JSON.parse(fields.data));
      if (fields.event === 'change') apply(JSON.parse(fields.data));
    }
  }
}

function whole({ servers, calls, ...top }) {
  skew = top.now_unix_ms - Date.now();
  state.top = top;
  state.servers = new Map(servers.map((server) => [server.name, server]));
  state.calls = calls.reverse();
  state.loaded = true;
  set('live');
  fetchHistory();
}

function apply(change) {
  skew = change.now_unix_ms - Date.now();
  Object.assign(state.top, change.set);
  for (const [name, members] of Object.entries(change.servers)) {
    const server = state.servers.get(name);
    if (server) Object.assign(server, members);
    else state.servers.set(name, members);
  }
  if (change.order) {
    state.servers = new Map(change.order.map((name) => [name, state.servers.get(name)]).filter(([, it]) => it));
  }
  if (change.calls.length) state.calls = [...change.calls.reverse(), ...state.calls].slice(0, 100);
  if ('step' in change.set) step();
  if (isNews(change)) changed();
  else dirty = true;
}

/** Members of servers and of the daemon that a person should see change. The others are figures. */
const NEWS = ['state', 'paused', 'enabled', 'signed_in', 'tools'];
const OWN_NEWS = ['status', 'wrong', 'catalog_version'];

function isNews({ order, set: own, servers }) {
  return Boolean(order) || OWN_NEWS.some((key) => key in own) || Object.values(servers).some((server) => NEWS.some((key) => key in server));
}

function step() {
  for (const [name, server] of state.servers) {
    const steps = state.history.get(name) ?? [];
    steps.push(server.lately.step);
    if (steps.length > STEPS_MAX) steps.shift();
    state.history.set(name, steps);
  }
}

async function fetchHistory() {
  try {
    const history = await get('/api/v1/history');
    state.history = new Map(Object.entries(history.servers));
    changed();
  } catch {
    // The stream says so, too, and brings it back.
  }
}

/** Has the daemon do something. Returns its answer; throws with its sentence. */
export async function post(path, body, signal) {
  let answer;
  try {
    answer = await fetch(path, {
      method: 'POST',
      headers: headers({ 'Content-Type': 'application/json' }),
      body: JSON.stringify(body ?? {}),
      signal,
    });
  } catch (error) {
    throw error.name === 'AbortError' ? error : new Error('the daemon does not answer');
  }
  const text = await answer.text();
  let json;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Error(text.trim() || `the daemon answered ${answer.status}`);
  }
  if (!answer.ok) throw new Error(typeof json.error === 'string' ? json.error : `the daemon answered ${answer.status}`);
  return json;
}

export const serverPath = (name, action) => `/api/v1/servers/${encodeURIComponent(name)}/${action}`;
