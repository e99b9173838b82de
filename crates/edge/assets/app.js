// The page: puts its parts together, and says how the link to the daemon stands.

import { attr, clock, counted, el, put } from './dom.js';
import { Calls, Clients, Facts, Profiles, Wrong } from './lists.js';
import { Servers } from './servers.js';
import { connect, link, post, serverPath, show, state, stirred, watch } from './store.js';
import { Tools } from './tools.js';

const by = (id) => document.getElementById(id);

const SILENT_MS = 1500;

// -- Theme: as the system, unless the person says otherwise. ---------------------------------------------------------

const THEMES = ['auto', 'light', 'dark'];

function remembered() {
  try {
    return localStorage.getItem('theme');
  } catch {
    return null;
  }
}

function theme(name) {
  const chosen = THEMES.includes(name) ? name : 'auto';
  attr(document.documentElement, 'data-theme', chosen === 'auto' ? null : chosen);
  put(by('theme'), `Theme: ${chosen}`);
  return chosen;
}

let current = theme(remembered());
by('theme').addEventListener('click', () => {
  current = theme(THEMES[(THEMES.indexOf(current) + 1) % THEMES.length]);
  try {
    localStorage.setItem('theme', current);
  } catch {
    // Then it holds until the page is closed.
  }
});

// -- What can be done. -----------------------------------------------------------------------------------------------

function say(text) {
  put(by('said'), text);
  clearTimeout(say.timer);
  say.timer = setTimeout(() => put(by('said'), ''), 8000);
}

/** Only pages of the web are linked to, and loopback ones. */
function isPage(url) {
  try {
    const { protocol, hostname } = new URL(url);
    return protocol === 'https:' || (protocol === 'http:' && ['127.0.0.1', '[::1]', 'localhost'].includes(hostname));
  } catch {
    return false;
  }
}

async function act(name, action, answer) {
  put(answer, { restart: 'Restarting', pause: 'Pausing', resume: 'Resuming', login: 'Asking where to sign in', logout: 'Signing out' }[action]);
  try {
    const done = await post(serverPath(name, action));
    if (action === 'login') {
      const target = isPage(done.url) ? el('a', { href: done.url, target: '_blank', rel: 'noopener noreferrer', text: `Open the sign-in page of ${name}` }) : el('code', { text: String(done.url) });
      answer.replaceChildren(target);
      target.focus?.();
    } else if (action === 'logout') {
      put(answer, done.was_signed_in ? `Signed out${done.revoked ? ', and the tokens are revoked' : ''}.` : 'Nobody was signed in.');
    } else {
      put(answer, { restart: 'It is being restarted.', pause: 'It is paused: calls that run may end, and it stays off until it is resumed or the daemon begins anew.', resume: 'It is being started.' }[action]);
    }
  } catch (error) {
    put(answer, error.message);
  }
}

by('reload').addEventListener('click', async () => {
  say('Reading the configuration');
  try {
    const { changed, after_restart: later, error } = await post('/api/v1/reload');
    if (error) say(`Nothing was changed: ${error}`);
    else if (!changed.length && !later.length) say('Nothing has changed.');
    else say([...changed, ...later.map((key) => `${key} holds from the next start on`)].join('; '));
  } catch (error) {
    say(error.message);
  }
});

by('key').addEventListener('submit', (event) => {
  event.preventDefault();
  show(by('key-token').value);
  by('key-token').value = '';
});

// -- The parts. ------------------------------------------------------------------------------------------------------

const tools = new Tools(by('tools-card'), by('tools-count'));
const servers = new Servers(by('servers-card'), by('servers-count'), {
  act,
  showTools: (name) => tools.show(name),
  changed: (text) => by('changed').replaceChildren(...[...by('changed').childNodes].slice(-4), el('span', { text: `${text}. ` })),
});
const parts = [
  new Facts(by('facts')),
  new Wrong(by('wrong'), by('wrong-list'), { act, show: (name) => servers.show(name) }),
  servers,
  tools,
  new Clients(by('clients-card'), by('clients-count')),
  new Profiles(by('profiles'), by('profiles-card'), by('profiles-count')),
  new Calls(by('calls-card'), by('calls-count')),
];

function pulse() {
  const wrong = state.top.wrong ?? [];
  const errors = wrong.filter((it) => it.level === 'error').length;
  const [text, kind] = link.is === 'away' ? ['Away', 'bad']
    : link.is === 'locked' ? ['Locked', 'auth']
    : link.is === 'connecting' ? ['Connecting', 'busy']
    : state.top.status === 'draining' ? ['Stopping', 'warn']
    : errors ? [`${counted(errors, 'thing')} to mend`, 'bad']
    : wrong.length ? [counted(wrong.length, 'warning'), 'warn']
    : ['All is well', 'good'];
  put(by('pulse-text'), text);
  attr(by('pulse'), 'class', `pulse is-${kind}`);
  document.title = errors && link.is === 'live' ? `(${errors}) Trunkline` : link.is === 'away' ? 'Trunkline, away' : 'Trunkline';
  // A moment of silence is a restart; more than that is worth a word.
  const away = link.is === 'away' && Date.now() - link.since > SILENT_MS;
  attr(by('away'), 'hidden', !away);
  if (away) put(by('away'), `The daemon does not answer since ${clock(link.since)}${link.why ? ` (${link.why})` : ''}. What is shown is from before; the page comes back by itself.`);
  document.body.classList.toggle('is-away', away);
  attr(by('main'), 'hidden', link.is === 'locked');
  attr(by('key'), 'hidden', link.is !== 'locked');
  if (link.is === 'locked') put(by('key-why'), link.why);
}

function draw() {
  for (const part of parts) part.draw();
  pulse();
}

watch(draw);

// Figures and times move together: each picture is laid out and painted anew, however little of it is another one.
setInterval(() => {
  if (document.hidden) return;
  if (stirred()) return draw();
  for (const part of parts) part.tick?.();
  pulse();
}, 1000);

connect();
