// What the daemon says, kept current: everything once, then what changed, by one stream of events that comes back by
// itself. The last hour is fetched once and goes on with the last step of each server.

const RETRY_MS = 2000;
const STEPS_MAX = 360;

/** `top`, `servers` (by name, in order), `calls` (newest first), `history` (steps by server, oldest first). */
export const state = { top: {}, servers: new Map(), calls: [], history: new Map(), loaded: false };

/** `connecting`, `live`, or `away` since `since`, with a reason if one is known. */
export const link = { is: 'connecting', since: Date.now(), why: '' };

let listeners = [];
let pending = false;
let skew = 0;

/** Calls `listener` after changes, at most once for each picture that the browser draws. */
export function watch(listener) {
  listeners.push(listener);
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
    for (const listener of listeners) listener();
  });
}

function set(is, why = '') {
  if (link.is !== is) link.since = Date.now();
  link.is = is;
  link.why = why;
  changed();
}

export function connect() {
  const source = new EventSource('/api/v1/events');
  source.addEventListener('state', (event) => {
    const whole = JSON.parse(event.data);
    const { servers, calls, ...top } = whole;
    skew = whole.now_unix_ms - Date.now();
    state.top = top;
    state.servers = new Map(servers.map((server) => [server.name, server]));
    state.calls = calls.reverse();
    state.loaded = true;
    set('live');
    fetchHistory();
  });
  source.addEventListener('change', (event) => {
    apply(JSON.parse(event.data));
    set('live');
  });
  source.addEventListener('error', async () => {
    // It tries again by itself, unless it was refused: then somebody has to be asked why.
    if (source.readyState !== EventSource.CLOSED) return set('away');
    source.close();
    let why = '';
    try {
      const answer = await fetch('/api/v1/state', { method: 'HEAD' });
      if (answer.ok) why = 'too many pages are watching already';
      else why = `the daemon answers ${answer.status}`;
    } catch {
      // Nobody is there.
    }
    set('away', why);
    setTimeout(connect, RETRY_MS);
  });
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
    const history = await (await fetch('/api/v1/history')).json();
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
      headers: { 'Content-Type': 'application/json' },
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
