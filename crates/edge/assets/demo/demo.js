const STREAM_NAME = /^[A-Za-z0-9_][A-Za-z0-9._:-]{0,127}$/;
const EVENT_ID = /^(\d{1,20})-(\d{1,20})$/;
const MAX_ROWS = 200;
const MAX_LATENCIES = 120;
const MAX_STORIES = 5;
const TAPE_CELLS = 96;
const SHOWN_CHARS = 600;
const EVENTS_WHILE_AWAY = 5;
// How long the stream must stay quiet after a resume before its story is told.
const SETTLE_MS = 500;
// How long the story waits for events it knows to be in the log before calling them lost.
const PATIENCE_MS = 5000;

const $ = (id) => document.getElementById(id);
const radio = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

/* Every text on this page that came over the wire goes through here, so none is ever parsed as
   markup. */
function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function svg(tag, attributes, text) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  return node;
}

const clip = (text, max = SHOWN_CHARS) => (text.length > max ? `${text.slice(0, max)}…` : text);
const count = (n, noun) => `${n} ${noun}${n === 1 ? '' : 's'}`;
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/* Sequence numbers are 64-bit on the server, so a Number would round the large ones and invent
   holes and duplicates. */
function parseId(text) {
  const match = EVENT_ID.exec(text ?? '');
  return match && { epoch: BigInt(match[1]), seq: BigInt(match[2]) };
}
const showId = (id) => `${id.epoch}-${id.seq}`;
const sameEpoch = (a, b) => Boolean(a && b && a.epoch === b.epoch);
// Sequences go on over epochs, and an epoch only ever rises.
const follows = (last, id) => Boolean(last && id && id.epoch >= last.epoch);

/* ---- settings, kept in the URL's hash ---- */

const list = (text) => [...new Set(text.split(',').map((part) => part.trim()).filter(Boolean))];

function settingsFromForm() {
  return { stream: $('stream').value.trim(), keys: list($('key-filter').value), from: radio('from') };
}

function saveHash() {
  const hash = new URLSearchParams();
  hash.set('stream', $('stream').value.trim());
  if ($('key-filter').value.trim()) hash.set('key', $('key-filter').value.trim());
  hash.set('from', radio('from'));
  if ($('types').value.trim()) hash.set('types', $('types').value.trim());
  if (sub) hash.set('on', '1');
  // Replaced, not pushed: Back should leave the page rather than walk through keystrokes.
  history.replaceState(null, '', `#${hash}`);
}

function loadHash() {
  const hash = new URLSearchParams(location.hash.slice(1));
  if (hash.has('stream')) $('stream').value = hash.get('stream');
  $('key-filter').value = hash.get('key') ?? '';
  $('types').value = hash.get('types') ?? '';
  for (const input of document.querySelectorAll('input[name="from"]')) {
    if (input.value === hash.get('from')) input.checked = true;
  }
  return hash.get('on') === '1';
}

function subscriptionUrl({ stream, keys, from }, extra = '') {
  // Built by hand because URLSearchParams writes a space as "+", which not every parser undoes.
  const query = [`from=${from}`, ...keys.map((key) => `key=${encodeURIComponent(key)}`)];
  return `/v1/streams/${stream}/events?${query.join('&')}${extra}`;
}

function matchesFilter(keys, key) {
  if (keys.length === 0) return true;
  return keys.some((want) => (want.endsWith('*') ? key.startsWith(want.slice(0, -1)) : key === want));
}

/* ---- the subscription ---- */

let sub = null;
let connectionState = 'closed';

function setState(state) {
  connectionState = state;
  $('state').textContent = state;
  $('state').dataset.state = state;
  refreshControls();
}

function notice(text) {
  $('notice').textContent = text ?? '';
  $('notice').hidden = !text;
}

function connect(settings) {
  disconnect();
  notice();
  const s = {
    ...settings,
    dense: settings.keys.length === 0,
    es: null,
    listeners: new Map(),
    connection: null,
    opens: 0,
    openAt: 0,
    lastId: '',
    last: null,
    cover: null,
    head: null,
    replaying: false,
    replayLimit: null,
    received: 0,
    gaps: 0,
    holes: 0,
    duplicates: 0,
    latencies: [],
    clockOffset: null,
    cells: new Map(),
    acks: new Map(),
    recent: [],
    cutRequested: false,
    story: null,
  };
  sub = s;
  if (settings.stream !== storiesStream) {
    $('stories').replaceChildren();
    storiesStream = settings.stream;
  }
  clearEvents();
  setState('connecting');

  s.es = new EventSource(subscriptionUrl(settings, '&envelope=1'));
  const on = (type, handler) =>
    s.es.addEventListener(type, (event) => {
      if (sub === s) handler(s, event);
    });

  // A publisher may name its type "open" or "error"; only the class tells it from the transport's own.
  on('open', (_, event) => (event instanceof MessageEvent ? onUserEvent(s, event) : setState('live')));
  on('error', (_, event) => (event instanceof MessageEvent ? onUserEvent(s, event) : onDisconnected(s)));
  on('message', onUserEvent);
  on('evergate.open', onOpen);
  on('evergate.gap', onGap);
  on('evergate.cursor', (_, event) => moveCursor(s, event));
  on('evergate.heartbeat', (_, event) => moveCursor(s, event));
  on('evergate.busy', (_, event) => {
    moveCursor(s, event);
    addMarker(`busy: ${clip(String(parseJson(event.data)?.reason ?? 'no reason given'), 200)}`, 'warn');
  });
  syncListeners();
  saveHash();
  schedule();
}

function disconnect() {
  if (!sub) return;
  sub.es.close();
  abandonStory(sub, 'disconnected by this page');
  sub = null;
  setState('closed');
  saveHash();
}

/* The native EventSource drops events whose name has no listener, so the set of names has to be
   known before the events come. */
function syncListeners() {
  if (!sub) return;
  const s = sub;
  const builtIn = new Set(['open', 'error', 'message']);
  const wanted = new Set(
    [...list($('types').value), ...publishedTypes].filter((type) => !builtIn.has(type) && !type.startsWith('evergate.')),
  );
  for (const [type, listener] of s.listeners) {
    if (wanted.has(type)) continue;
    s.es.removeEventListener(type, listener);
    s.listeners.delete(type);
  }
  for (const type of wanted) {
    if (s.listeners.has(type)) continue;
    const listener = (event) => {
      if (sub === s) onUserEvent(s, event);
    };
    s.es.addEventListener(type, listener);
    s.listeners.set(type, listener);
  }
}

function moveCursor(s, event) {
  if (event.lastEventId) s.lastId = event.lastEventId;
  schedule();
}

function onOpen(s, event) {
  const info = parseJson(event.data) ?? {};
  moveCursor(s, event);
  s.connection = typeof info.connection === 'string' || typeof info.connection === 'number' ? String(info.connection) : null;
  s.opens += 1;
  s.openAt = Date.now();
  s.cutRequested = false;
  // Only the first cursor is a baseline. After a resume the page keeps its own, otherwise a server
  // that came back at the wrong place would go unnoticed.
  if (!s.last) s.last = parseId(event.lastEventId || info.cursor);
  advanceHead(s, parseId(event.lastEventId || info.cursor));
  const resume = clip(String(info.resume ?? 'unknown'), 40);
  if (s.opens > 1) {
    s.replaying = true;
    s.replayLimit = s.head;
    addMarker(`reconnected, resume: ${resume}`);
  }
  setState('live');
  storyReconnected(s, resume);
}

function onGap(s, event) {
  const info = parseJson(event.data) ?? {};
  moveCursor(s, event);
  s.gaps += 1;
  s.cover = parseId(info.resumed_at);
  // Without a readable position the next event becomes the new baseline: the gap was announced.
  if (!s.cover) s.last = null;
  const from = parseId(info.first_missing);
  if (from && sameEpoch(from, s.cover)) {
    markCells(s, from.seq, s.cover.seq, 'hole');
    advanceHead(s, s.cover);
  }
  const lost = typeof info.lost === 'number' ? info.lost : null;
  if (s.story) {
    s.story.gaps += 1;
    s.story.gapLost = lost === null || s.story.gapLost === null ? null : s.story.gapLost + lost;
  }
  const detail = [
    `gap announced: ${lost === null ? 'an unknown number of events' : count(lost, 'event')} lost`,
    info.first_missing && `first missing ${info.first_missing}`,
    info.resumed_at && `resumed at ${info.resumed_at}`,
    info.reason,
  ];
  addMarker(clip(detail.filter(Boolean).join(', '), 300), 'warn');
  schedule();
}

/* Whether an event is next in line, checked by the page itself rather than taken from the server's
   word. */
function account(s, id) {
  if (!id) return 'new';
  if (s.cover && (id.epoch !== s.cover.epoch || id.seq >= s.cover.seq)) {
    // The position may name the last event skipped or the first one delivered; neither is a hole.
    s.last = id.epoch === s.cover.epoch && id.seq === s.cover.seq ? null : s.cover;
    s.cover = null;
  }
  const { last } = s;
  if (follows(last, id)) {
    if (id.seq <= last.seq) {
      s.duplicates += 1;
      if (s.story) s.story.duplicates += 1;
      return 'duplicate';
    }
    const missing = id.seq - last.seq - 1n;
    if (missing > 0n) {
      if (s.dense) foundHole(s, Number(missing), `hole: ${count(Number(missing), 'event')} missing before ${showId(id)}`);
      markCells(s, last.seq + 1n, id.seq - 1n, s.dense ? 'hole' : 'skipped');
    }
  } else if (last && s.dense) {
    foundHole(s, 1, `hole: the epoch went back at ${showId(id)} without a gap being announced`);
  }
  s.last = id;
  return 'new';
}

function foundHole(s, missing, text) {
  s.holes += missing;
  if (s.story) s.story.holes += missing;
  addMarker(text, 'bad');
}

function onUserEvent(s, event) {
  const now = Date.now();
  const envelope = parseJson(event.data);
  const wrapped = envelope !== null && typeof envelope === 'object';
  const text = wrapped && typeof envelope.data === 'string' ? envelope.data : event.data;
  const time = wrapped ? Date.parse(envelope.time) : NaN;
  const id = parseId(event.lastEventId);

  moveCursor(s, event);
  s.received += 1;
  const duplicate = account(s, id) === 'duplicate';

  // The smallest difference ever seen is the clocks' disagreement plus the best latency, which is
  // what turns the server's time into this page's.
  const ack = s.acks.get(event.lastEventId);
  if (!Number.isNaN(time)) s.clockOffset = Math.min(s.clockOffset ?? Infinity, now - time);
  const storedAt = Math.min(now, ack?.at ?? (Number.isNaN(time) ? now : time + s.clockOffset));

  let replayed = false;
  if (s.replaying) {
    const known = sameEpoch(id, s.replayLimit) && id.seq <= s.replayLimit.seq;
    replayed = known || storedAt < s.openAt;
    // Delivery is in order, so the first live event ends the replay.
    if (!replayed) s.replaying = false;
  }

  if (id && !duplicate) {
    advanceHead(s, id);
    s.cells.set(id.seq, replayed ? 'replayed' : 'live');
  }
  s.recent.push({ storedAt, at: now, replayed });
  if (s.recent.length > 400) s.recent.splice(0, 200);

  const sent = parseJson(text)?.sent;
  const latency = typeof sent === 'number' && Number.isFinite(sent) ? now - sent : null;
  // History and replays waited in the log, which says nothing about how fast delivery is.
  if (latency !== null && sent >= s.openAt) {
    s.latencies.push(latency);
    if (s.latencies.length > MAX_LATENCIES) s.latencies.shift();
  }

  addEvent({
    id: event.lastEventId,
    time,
    rawTime: wrapped && typeof envelope.time === 'string' ? envelope.time : '',
    key: wrapped && typeof envelope.key === 'string' ? envelope.key : '',
    type: wrapped && typeof envelope.type === 'string' ? envelope.type : event.type === 'message' ? '' : event.type,
    text,
    latency,
    replayed,
    duplicate,
  });
  storyEvent(s, event.lastEventId, replayed);
  schedule();
}

function onDisconnected(s) {
  s.connection = null;
  if (s.es.readyState === EventSource.CLOSED) {
    abandonStory(s, 'the server refused the reconnection');
    sub = null;
    setState('closed');
    explainRefusal(s);
    return;
  }
  if (s.opens === 0) {
    setState('connecting');
    return;
  }
  if (connectionState === 'reconnecting') {
    if (s.story) s.story.attempts += 1;
    return;
  }
  setState('reconnecting');
  addMarker(`${s.cutRequested ? 'cut' : 'connection lost'} at ${s.lastId || 'an unknown position'}`, 'warn');
  beginStory(s);
}

/* EventSource hides why a server refused, so the same request is made once more only to read the
   answer. */
async function explainRefusal(s) {
  const probe = new AbortController();
  try {
    const response = await fetch(subscriptionUrl(s, '&envelope=1'), {
      headers: { Accept: 'text/event-stream, application/problem+json' },
      signal: probe.signal,
      cache: 'no-store',
    });
    if (response.ok) notice('The server ended this subscription. Connect again to start a new one.');
    else notice(`The server refused the subscription: ${describe(await readProblem(response))}`);
  } catch {
    notice('The connection was closed and the server cannot be reached.');
  } finally {
    probe.abort();
  }
}

/* ---- publishing ---- */

const publishedTypes = new Set();

async function readProblem(response) {
  const body = parseJson(await response.text());
  const problem = body !== null && typeof body === 'object' ? body : {};
  return {
    title: typeof problem.title === 'string' ? problem.title : response.statusText || 'request failed',
    status: response.status,
    detail: typeof problem.detail === 'string' ? problem.detail : '',
    errors: problem.errors,
  };
}

function describeError(error) {
  if (typeof error === 'string') return error;
  const where = error?.pointer ?? error?.field ?? error?.parameter;
  const what = error?.detail ?? error?.message;
  if (typeof what !== 'string') return JSON.stringify(error);
  return typeof where === 'string' ? `${where}: ${what}` : what;
}

function describe({ status, title, detail, errors }) {
  let text = `${status} ${title}`;
  if (detail && detail !== title) text += `: ${detail}`;
  if (Array.isArray(errors) && errors.length > 0) {
    text += ` (${errors.slice(0, 5).map(describeError).join('; ')})`;
  } else if (errors && typeof errors === 'object' && Object.keys(errors).length > 0) {
    text += ` (${JSON.stringify(errors)})`;
  }
  return clip(text, 400);
}

async function publish(stream, event) {
  let response;
  try {
    response = await fetch(`/v1/streams/${stream}/events`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(event),
      cache: 'no-store',
    });
  } catch {
    return { ok: false, text: 'The server cannot be reached.' };
  }
  if (!response.ok) return { ok: false, text: describe(await readProblem(response)) };
  const answer = parseJson(await response.text().catch(() => ''));
  const offset = String(answer?.offset ?? '');
  const id = parseId(offset);
  if (sub && sub.stream === stream && id) {
    const s = sub;
    s.acks.set(offset, { id, at: Date.now(), key: event.key ?? '' });
    if (s.acks.size > 2000) s.acks.delete(s.acks.keys().next().value);
    advanceHead(s, id);
    if (!s.cells.has(id.seq)) s.cells.set(id.seq, matchesFilter(s.keys, event.key ?? '') ? 'stored' : 'skipped');
    schedule();
  }
  return { ok: true, offset, text: `${response.status} stored at ${offset || 'an unknown offset'}${answer?.duplicate ? ', a duplicate' : ''}` };
}

function answer({ ok, text }) {
  $('answer').dataset.ok = String(ok);
  $('answer').textContent = clip(text, 400);
}

function publishStream() {
  return sub ? sub.stream : $('stream').value.trim();
}

async function publishFromForm() {
  const stream = publishStream();
  if (!STREAM_NAME.test(stream)) {
    $('stream').reportValidity();
    return;
  }
  const event = { data: $('data').value };
  const key = $('key').value;
  const type = $('type').value;
  if (key) event.key = key;
  if (type) {
    event.type = type;
    // Before the event is sent: its delivery may overtake the answer.
    publishedTypes.add(type);
    syncListeners();
  }
  const result = await publish(stream, event);
  answer(result);
  const listed = list($('types').value);
  // Shown, so that the listener survives a reload and is not a secret of the page.
  if (result.ok && type && type === type.trim() && !type.includes(',') && type !== 'message' && !listed.includes(type)) {
    $('types').value = [...listed, type].join(', ');
    saveHash();
  }
}

const prices = new Map([['AAPL', 187.42], ['MSFT', 421.9], ['NVDA', 131.26], ['TSLA', 248.5], ['AMZN', 201.7]]);
let tickTimer = 0;
let ticksInFlight = 0;
let ticksSent = 0;
let ticksPausedUntil = 0;

async function tick() {
  // A browser opens six connections to one HTTP/1.1 origin and the subscription holds one of them.
  if (ticksInFlight >= 4 || Date.now() < ticksPausedUntil) return;
  const stream = publishStream();
  if (!STREAM_NAME.test(stream)) return;
  const symbols = [...prices.keys()];
  const symbol = symbols[Math.floor(Math.random() * symbols.length)];
  const price = Math.round(prices.get(symbol) * (1 + (Math.random() - 0.5) * 0.004) * 100) / 100;
  prices.set(symbol, price);
  ticksInFlight += 1;
  const result = await publish(stream, { data: JSON.stringify({ symbol, price, sent: Date.now() }), key: symbol });
  ticksInFlight -= 1;
  if (result.ok) ticksSent += 1;
  else ticksPausedUntil = Date.now() + 1000;
  $('ticks-sent').textContent = result.ok ? `${count(ticksSent, 'tick')} sent, last at ${result.offset}` : `Trying again each second. ${result.text}`;
}

function updateTicks() {
  clearInterval(tickTimer);
  if ($('ticks').checked) {
    ticksPausedUntil = 0;
    tick();
    tickTimer = setInterval(tick, 1000 / Number(radio('rate')));
  }
}

/* ---- cutting the connection, and the story of each reconnection ---- */

let storiesStream = '';

async function cut() {
  const s = sub;
  if (!s || !s.connection || connectionState !== 'live' || s.cutRequested) return;
  s.cutRequested = true;
  refreshControls();
  const connection = s.connection;
  let refused = '';
  try {
    const response = await fetch(`/dev/cut/${encodeURIComponent(connection)}`, { method: 'POST', cache: 'no-store' });
    if (!response.ok) refused = describe(await readProblem(response));
  } catch {
    // Over a shared connection (HTTP/2) this request dies with the one it cuts, which is a success.
  }
  if (!refused) await new Promise((resolve) => setTimeout(resolve, 3000));
  if (sub !== s || s.connection !== connection) return;
  s.cutRequested = false;
  refreshControls();
  notice(`The connection was not cut: ${refused || 'it is still open three seconds later'}`);
}

function beginStory(s) {
  finishStory(s);
  const story = {
    byButton: s.cutRequested,
    phase: 'away',
    lostAt: Date.now(),
    lastId: s.lastId,
    cutId: parseId(s.lastId),
    attempts: 1,
    awayPlanned: 0,
    awayDone: 0,
    awayStored: 0,
    openAt: 0,
    resume: '',
    sentId: '',
    replayed: 0,
    firstReplayed: '',
    lastReplayed: '',
    holes: 0,
    duplicates: 0,
    gaps: 0,
    gapLost: 0,
    got: new Set(),
    timer: 0,
    deadline: 0,
    tail: false,
    node: el('li', 'story'),
  };
  story.node.dataset.testid = 'story';
  s.story = story;
  $('stories').prepend(story.node);
  while ($('stories').children.length > MAX_STORIES) $('stories').lastElementChild.remove();
  drawStory(s, story);
  // The away time is shown counting; nothing else would redraw while no event comes.
  story.ticker = setInterval(() => drawStory(s, story), 100);
  if (story.byButton) publishWhileAway(s, story);
}

async function publishWhileAway(s, story) {
  story.awayPlanned = EVENTS_WHILE_AWAY;
  // A filtered subscription would not be shown events of any other key.
  const [filter] = s.keys;
  const key = filter ? (filter.endsWith('*') ? `${filter.slice(0, -1)}away` : filter) : '';
  for (let n = 1; n <= EVENTS_WHILE_AWAY; n += 1) {
    const data = JSON.stringify({ note: 'while you were away', n, sent: Date.now() });
    const result = await publish(s.stream, key ? { data, key } : { data });
    story.awayDone += 1;
    if (result.ok) {
      story.awayStored += 1;
      const ack = s.acks.get(result.offset);
      if (ack) ack.expected = true;
    } else {
      answer(result);
    }
    drawStory(s, story);
    // Spread out, so that the diagram shows five events and not one blot.
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
}

function storyReconnected(s, resume) {
  const { story } = s;
  if (!story || story.phase !== 'away') return;
  clearInterval(story.ticker);
  story.phase = 'replaying';
  story.openAt = s.openAt;
  story.resume = resume;
  story.sentId = story.lastId;
  story.deadline = Date.now() + PATIENCE_MS;
  settleStory(s, story, SETTLE_MS);
  drawStory(s, story);
}

function storyEvent(s, id, replayed) {
  const { story } = s;
  if (!story || story.phase !== 'replaying') return;
  story.got.add(id);
  if (replayed) {
    story.replayed += 1;
    story.firstReplayed ||= id;
    story.lastReplayed = id;
    story.deadline = Date.now() + PATIENCE_MS;
    settleStory(s, story, SETTLE_MS);
  } else if (!story.tail) {
    // On a busy stream it never gets quiet; the first live event is as good a sign.
    story.tail = true;
    settleStory(s, story, SETTLE_MS);
  }
  story.dirty = true;
}

/* Events the server confirmed before it let this page back in, hence owed to it. */
function owed(s, story) {
  return [...s.acks].filter(([offset, { id, at, key, expected }]) => {
    if (!expected && at > story.openAt) return false;
    if (!matchesFilter(s.keys, key) || story.got.has(offset)) return false;
    if (follows(id, story.cutId) && id.seq <= story.cutId.seq) return false;
    if (s.dense) return !s.last || id.epoch > s.last.epoch || id.seq > s.last.seq;
    return true;
  }).length;
}

function settleStory(s, story, delay) {
  clearTimeout(story.timer);
  story.timer = setTimeout(() => {
    const waiting = story.awayDone < story.awayPlanned || owed(s, story) > 0;
    if (waiting && Date.now() < story.deadline) settleStory(s, story, 200);
    else finishStory(s);
  }, delay);
}

function finishStory(s) {
  const { story } = s;
  if (!story) return;
  clearTimeout(story.timer);
  clearInterval(story.ticker);
  s.story = null;
  if (story.phase === 'away') {
    story.phase = 'failed';
    drawStory(s, story);
    return;
  }
  story.phase = 'done';
  story.lost = story.holes + owed(s, story);
  drawStory(s, story);
  drawDiagram(s, story);
  $('announce').textContent = story.node.querySelector('.story-steps').textContent;
}

function abandonStory(s, why) {
  if (s.story) s.story.failure = why;
  finishStory(s);
}

function drawStory(s, story) {
  const { node } = story;
  node.dataset.phase = story.phase;
  const steps = [];
  const step = (...parts) => steps.push(el('span', 'step', ...parts));
  const code = (text) => el('code', '', clip(text || 'the start', 80));

  step(el('b', '', story.byButton ? 'cut' : 'connection lost'), ' at ', code(story.lastId));
  if (story.awayPlanned) {
    const stored = story.awayDone < story.awayPlanned ? `${story.awayStored} of ${story.awayPlanned} events` : count(story.awayStored, 'event');
    step(`${stored} published while away`);
  }
  if (story.phase === 'away') step(`away for ${seconds(Date.now() - story.lostAt)}`);
  if (story.phase === 'failed') step(el('span', 'verdict bad', story.failure ?? 'never came back'));
  if (story.openAt) {
    const tries = story.attempts > 1 ? `, ${story.attempts} attempts,` : '';
    step('reconnected after ', el('b', '', seconds(story.openAt - story.lostAt)), `${tries} with Last-Event-ID `, code(story.sentId));
    step('resume: ', el('b', '', story.resume));
  }
  if (story.phase === 'replaying') step(`${count(story.replayed, 'event')} replayed so far`);
  if (story.phase === 'done') {
    const range = story.replayed ? [' (', code(story.firstReplayed), ' … ', code(story.lastReplayed), ')'] : [];
    if (story.gaps) step(el('span', 'verdict warn', `gap announced: ${story.gapLost === null ? 'unknown number' : story.gapLost} lost`));
    const bad = story.lost > 0 || story.duplicates > 0;
    step(`${count(story.replayed, 'event')} replayed`, ...range, ', ', el('span', bad ? 'verdict bad' : 'verdict', `${story.lost} lost${story.gaps ? ' beyond the gap' : ''}, ${story.duplicates} duplicated`));
    node.dataset.resume = story.resume;
    node.dataset.replayed = story.replayed;
    node.dataset.lost = story.lost;
    node.dataset.duplicated = story.duplicates;
  }

  const line = el('p', 'story-steps');
  steps.forEach((item, index) => {
    if (index > 0) item.prepend(el('span', 'arrow', ' → '));
    line.append(item);
  });
  const old = node.querySelector('.story-steps');
  if (old) old.replaceWith(line);
  else node.append(line);
}

/* Two lanes over one time axis: when each event entered the log, and when it reached this page.
   Positions are percentages, so the drawing follows the width of the page without being redrawn. */
function drawDiagram(s, story) {
  const end = Date.now();
  const start = story.lostAt - Math.max(500, (story.openAt - story.lostAt) * 0.3);
  const x = (at) => `${(2 + (96 * (Math.min(Math.max(at, start), end) - start)) / (end - start)).toFixed(2)}%`;
  const logY = 10;
  const pageY = 54;
  const lostX = x(story.lostAt);
  const openX = x(story.openAt);
  const drawing = svg('svg', { role: 'img', 'aria-label': 'Timeline: when each event entered the log, and when it reached this page' });
  drawing.append(
    svg('rect', { class: 'd-away', x: lostX, y: 2, width: `${parseFloat(openX) - parseFloat(lostX)}%`, height: 60, rx: 4 }),
    svg('line', { class: 'd-log', x1: '0%', y1: logY, x2: '100%', y2: logY }),
    svg('line', { class: 'd-on', x1: '0%', y1: pageY, x2: lostX, y2: pageY }),
    svg('line', { class: 'd-off', x1: lostX, y1: pageY, x2: openX, y2: pageY }),
    svg('line', { class: 'd-on', x1: openX, y1: pageY, x2: '100%', y2: pageY }),
    // Anchored away from each other, so that a short absence does not print one over the other.
    svg('text', { class: 'd-text', x: lostX, y: 76, 'text-anchor': 'end' }, story.byButton ? 'cut' : 'lost'),
    svg('text', { class: 'd-text', x: openX, y: 76, 'text-anchor': parseFloat(openX) > 65 ? 'end' : 'start' }, 'reconnected'),
  );
  const seen = s.recent.filter((event) => event.at >= start && event.at <= end);
  // A flood would paint a solid block; a sample of it says as much.
  const stride = Math.ceil(seen.length / 90);
  const links = [];
  const dots = [];
  seen.forEach((event, index) => {
    if (index % stride) return;
    const replayed = event.replayed ? ' replayed' : '';
    const from = x(event.storedAt);
    const to = x(event.at);
    links.push(svg('line', { class: `d-link${replayed}`, x1: from, y1: logY, x2: to, y2: pageY }));
    dots.push(svg('circle', { class: `d-dot${replayed}`, cx: from, cy: logY, r: 3 }), svg('circle', { class: `d-dot${replayed}`, cx: to, cy: pageY, r: 3 }));
  });
  drawing.append(...links, ...dots);
  story.node.append(el('div', 'diagram', el('span', 'lane', 'stored in the log'), el('span', 'lane', 'delivered here'), drawing));
}

/* ---- drawing ---- */

/* Rows wait here for the next frame. A hidden tab gets no frames, so the queue is bounded by what
   could be shown anyway. */
let pending = [];
let paused = false;
let unseen = 0;
let scheduled = false;

function addEvent(event) {
  if (paused) unseen += 1;
  queueRow(() => eventRow(event));
}

function addMarker(text, tone = '') {
  queueRow(() => el('li', `marker ${tone}`, text));
}

function queueRow(build) {
  pending.push(build);
  if (pending.length > MAX_ROWS) pending.splice(0, pending.length - MAX_ROWS);
  schedule();
}

function clearEvents() {
  pending = [];
  unseen = 0;
  $('events').replaceChildren();
  $('empty').hidden = false;
  schedule();
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 });

function eventRow(event) {
  const row = el('li', 'event fresh');
  row.dataset.id = event.id;
  row.dataset.testid = 'event';
  if (event.replayed) row.classList.add('replayed');
  if (event.duplicate) row.classList.add('duplicate');

  const id = parseId(event.id);
  const idCell = el('span', 'c-id');
  if (id) idCell.append(el('span', 'epoch', `${id.epoch}-`), el('span', 'seq', String(id.seq)));
  else idCell.append(clip(event.id, 60));

  const time = el('time', 'c-time', Number.isNaN(event.time) ? clip(event.rawTime, 24) : clock.format(event.time));
  if (!Number.isNaN(event.time)) time.dateTime = new Date(event.time).toISOString();

  const key = el('span', 'c-key', clip(event.key, 80));
  const type = el('span', 'c-type', clip(event.type, 80));
  if (event.key) key.title = `key: ${clip(event.key, 200)}`;
  if (event.type) type.title = `type: ${clip(event.type, 200)}`;

  const data = el('span', 'c-data');
  if (event.duplicate) data.append(el('span', 'badge bad', 'duplicate'));
  if (event.replayed) data.append(el('span', 'badge', 'replayed'));
  data.append(clip(event.text));
  data.title = clip(event.text, 2000);

  row.append(idCell, time, key, type, data, el('span', 'c-latency', event.latency === null ? '' : milliseconds(event.latency)));
  return row;
}

function milliseconds(ms) {
  if (Math.abs(ms) < 10_000) return `${Math.round(ms)} ms`;
  if (Math.abs(ms) < 600_000) return `${Math.round(ms / 1000)} s`;
  if (Math.abs(ms) < 36_000_000) return `${Math.round(ms / 60_000)} min`;
  return `${Math.round(ms / 3_600_000)} h`;
}

function advanceHead(s, id) {
  if (!id) return;
  if (s.head && (id.epoch < s.head.epoch || (id.epoch === s.head.epoch && id.seq <= s.head.seq))) return;
  // A history of its own, as after a restart of a log in memory, counts from 1 again.
  if (s.head && id.seq <= s.head.seq) s.cells.clear();
  s.head = id;
  if (s.cells.size > TAPE_CELLS * 4) {
    for (const seq of s.cells.keys()) if (seq + BigInt(TAPE_CELLS) < id.seq) s.cells.delete(seq);
  }
}

function markCells(s, from, to, state) {
  // Only what the tape can still show: an announced gap may span millions.
  let seq = to - from > BigInt(TAPE_CELLS) ? to - BigInt(TAPE_CELLS) : from;
  for (; seq <= to; seq += 1n) {
    const old = s.cells.get(seq);
    if (!old || old === 'stored') s.cells.set(seq, state);
  }
}

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    draw();
  });
}

function draw() {
  if (!paused && pending.length > 0) {
    const rows = document.createDocumentFragment();
    for (const build of pending.reverse()) rows.append(build());
    pending = [];
    const events = $('events');
    events.prepend(rows);
    while (events.children.length > MAX_ROWS) events.lastElementChild.remove();
    $('empty').hidden = true;
  }
  $('pause').textContent = paused ? `Resume (${unseen} new)` : 'Pause';

  const s = sub ?? lastShown;
  lastShown = s;
  if (!s) return;
  $('last-id').textContent = s.lastId ? clip(s.lastId, 80) : 'none yet';
  $('received').textContent = s.received.toLocaleString('en');
  counter('gaps', s.gaps, 'warn');
  counter('duplicates', s.duplicates, 'bad');
  counter('holes', s.holes, 'bad');
  if (!s.dense) {
    // A filtered subscription skips numbers by design, so it cannot be checked for holes.
    $('holes').textContent = 'n/a';
    $('holes').className = 'na';
    $('holes').title = 'Holes can only be seen without a key filter';
  }
  $('hole-hint').hidden = s.holes === 0;
  drawTape(s);
  drawLatency(s);
  if (s.story?.dirty) {
    s.story.dirty = false;
    drawStory(s, s.story);
  }
}

let lastShown = null;

function counter(id, value, tone) {
  $(id).textContent = value.toLocaleString('en');
  $(id).className = value > 0 ? tone : '';
  $(id).removeAttribute('title');
}

function drawTape(s) {
  const tape = $('tape');
  const cursor = parseId(s.lastId);
  const head = s.head?.seq ?? 0n;
  for (let index = 0; index < TAPE_CELLS; index += 1) {
    const cell = tape.children[index];
    const seq = head - BigInt(TAPE_CELLS - 1 - index);
    cell.dataset.seq = seq > 0n ? String(seq) : '';
    cell.dataset.state = (s.head && s.cells.get(seq)) || '';
    cell.className = sameEpoch(cursor, s.head) && seq === cursor.seq ? 'cell cursor' : 'cell';
  }
}

function drawLatency(s) {
  const values = s.latencies;
  const [area, line] = $('sparkline').children;
  if (values.length === 0) {
    area.setAttribute('d', '');
    line.setAttribute('d', '');
    for (const id of ['latency-last', 'latency-p50', 'latency-p99']) $(id).textContent = '–';
    $('sparkline').setAttribute('aria-label', 'No latency measured yet');
    return;
  }
  const sorted = [...values].sort((a, b) => a - b);
  const rank = (p) => sorted[Math.min(sorted.length - 1, Math.ceil(p * sorted.length) - 1)];
  const [p50, p99] = [rank(0.5), rank(0.99)];
  // One outlier must not flatten the rest into a line along the bottom.
  const top = Math.max(4, Math.min(sorted.at(-1), p50 * 8 + 4));
  const right = MAX_LATENCIES - 1;
  const points = values.map((value, index) => {
    const x = right - (values.length - 1 - index);
    const y = 39 - (37 * Math.min(Math.max(value, 0), top)) / top;
    return `${x} ${y.toFixed(1)}`;
  });
  line.setAttribute('d', `M${points.join('L')}`);
  area.setAttribute('d', `M${right - values.length + 1} 40L${points.join('L')}L${right} 40Z`);
  $('latency-last').textContent = milliseconds(values.at(-1));
  $('latency-p50').textContent = milliseconds(p50);
  $('latency-p99').textContent = milliseconds(p99);
  $('sparkline').setAttribute('aria-label', `Last ${values.length} latencies: median ${milliseconds(p50)}, 99th percentile ${milliseconds(p99)}`);
}

function refreshControls() {
  const form = settingsFromForm();
  const mode = !sub ? 'connect' : subscriptionUrl(form) === subscriptionUrl(sub) ? 'disconnect' : 'apply';
  $('connect').dataset.mode = mode;
  $('connect').textContent = { connect: 'Connect', disconnect: 'Disconnect', apply: 'Apply' }[mode];
  const stream = publishStream();
  $('publish-stream').textContent = stream || '…';
  $('url').textContent = subscriptionUrl(form, '&envelope=1');
  $('curl').textContent = `curl -N '${location.origin}${subscriptionUrl(form).replaceAll("'", '%27')}'`;

  const ready = connectionState === 'live' && Boolean(sub?.connection) && !sub.cutRequested;
  $('cut').setAttribute('aria-disabled', String(!ready));
  $('cut-label').textContent =
    sub && (sub.cutRequested || connectionState === 'reconnecting') ? 'Waiting for the browser' : 'Cut the connection';
}

/* ---- wiring ---- */

$('subscribe').addEventListener('submit', (event) => {
  event.preventDefault();
  const settings = settingsFromForm();
  if (sub && subscriptionUrl(settings) === subscriptionUrl(sub)) disconnect();
  else if (STREAM_NAME.test(settings.stream)) connect(settings);
  else notice('A stream name starts with a letter, a digit or _, and goes on with letters, digits and . _ : -');
});
$('subscribe').addEventListener('input', refreshControls);
// Not on every keystroke: Safari throws once the history is rewritten a hundred times in 30 seconds.
$('subscribe').addEventListener('change', saveHash);
$('types').addEventListener('change', syncListeners);

$('publish-form').addEventListener('submit', (event) => {
  event.preventDefault();
  publishFromForm();
});
$('data').addEventListener('keydown', (event) => {
  // While an input method composes a word, Enter belongs to it.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $('publish-form').requestSubmit();
});

$('ticks').addEventListener('change', updateTicks);
for (const input of document.querySelectorAll('input[name="rate"]')) input.addEventListener('change', updateTicks);

$('cut').addEventListener('click', cut);

$('pause').addEventListener('click', () => {
  paused = !paused;
  unseen = 0;
  $('pause').setAttribute('aria-pressed', String(paused));
  schedule();
});
$('clear').addEventListener('click', clearEvents);

window.addEventListener('hashchange', () => {
  const on = loadHash();
  const settings = settingsFromForm();
  if (on && STREAM_NAME.test(settings.stream)) connect(settings);
  else refreshControls();
});

for (let index = 0; index < TAPE_CELLS; index += 1) $('tape').append(el('i', 'cell'));
// The browser may restore these by itself on reload, without the timer that goes with them.
$('ticks').checked = false;
const wasConnected = loadHash();
refreshControls();
if (wasConnected && STREAM_NAME.test(settingsFromForm().stream)) connect(settingsFromForm());
