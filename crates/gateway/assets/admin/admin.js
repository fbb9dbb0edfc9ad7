// The admin page: shows what the process tells of itself once a second, over SSE. It changes nothing.
'use strict';

const byId = (id) => document.getElementById(id);
const RECENT_MAX = 50;

let before = null; // The figures of the last look, and when it was.
let looking = null; // The stream that is looked at.

/** An element with text, never with markup: what is shown may be anybody's. */
function made(name, text, className) {
  const element = document.createElement(name);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function count(n) {
  if (n === undefined || Number.isNaN(n)) return '–';
  return n >= 100 || Number.isInteger(n) ? Math.round(n).toLocaleString('en') : n.toFixed(1);
}

/** The sum of a figure over its labels, as far as they hold all of these. */
function sum(figures, name, ...labels) {
  let total;
  for (const [series, value] of Object.entries(figures)) {
    const [had, told = ''] = series.split('{');
    if (had === name && labels.every((label) => told.includes(label))) total = (total ?? 0) + value;
  }
  return total;
}

/** How fast it rises, a second. */
function rate(figures, seconds, name, ...labels) {
  if (!before || seconds <= 0) return undefined;
  const risen = (sum(figures, name, ...labels) ?? 0) - (sum(before.figures, name, ...labels) ?? 0);
  return Math.max(0, risen) / seconds;
}

function cards(list, entries) {
  list.replaceChildren(
    ...entries
      .filter(([, value]) => value !== undefined)
      .map(([term, value, remark]) => {
        const card = document.createElement('div');
        const told = made('dd', value);
        if (remark) told.append(' ', made('small', remark));
        card.append(made('dt', term), told);
        return card;
      }),
  );
}

/** An entry of a list of what happened. */
function entry(at, text) {
  const item = document.createElement('li');
  const time = made('time', at.toLocaleTimeString());
  time.dateTime = at.toISOString();
  item.append(time, text);
  return item;
}

function note(text) {
  byId('recent').prepend(entry(new Date(), text));
  while (byId('recent').children.length > RECENT_MAX) byId('recent').lastChild.remove();
}

/** The nodes of the cluster, or nothing where there is none. */
function showNodes(cluster) {
  const nodes = cluster?.nodes ?? [];
  byId('nodes-table').hidden = nodes.length === 0;
  byId('nodes').replaceChildren(
    ...nodes.map((node) => {
      const row = document.createElement('tr');
      const state = made('td', node.state);
      state.dataset.state = node.state;
      const streams = node.connections === null ? '–' : `${count(node.connections)} of ${count(node.capacity)}`;
      const arrivals = node.arrivals === null ? '–' : `${count(node.arrivals)} of ${count(node.admits)}`;
      row.append(
        made('td', node.node), made('td', node.role), made('td', node.region), made('td', node.zone), state,
        made('td', node.share === null ? '–' : `${(node.share * 100).toFixed(1)} %`, 'number'),
        made('td', streams, 'number'), made('td', arrivals, 'number'), made('td', node.version),
      );
      return row;
    }),
  );
  byId('more-nodes').hidden = !cluster?.more;
  byId('more-nodes').textContent = cluster?.more ? `And ${count(cluster.more)} more.` : '';
}

/** What the process wrote down, whether or not anybody looked. */
function showJournal(journal) {
  const newest = journal[0] ? `${journal[0].at} ${journal[0].text} ${journal.length}` : '';
  byId('no-journal').hidden = journal.length !== 0;
  if (byId('journal').dataset.newest === newest) return;
  byId('journal').dataset.newest = newest;
  byId('journal').replaceChildren(...journal.map(({ at, text }) => entry(new Date(at), text)));
}

function rows(figures, name, what) {
  return Object.entries(figures)
    .filter(([series, value]) => series.split('{')[0] === name && value > 0)
    .map(([series, value]) => [what, (/reason="([^"]*)"/.exec(series) ?? [])[1] ?? '', value]);
}

function show(state) {
  const { figures } = state;
  const now = performance.now();
  const seconds = before ? (now - before.at) / 1000 : 0;
  byId('node').textContent = state.node;
  byId('where').textContent = `${state.region}, version ${state.version}`;
  byId('stage').textContent = state.stage;
  byId('stage').dataset.stage = state.stage;
  document.title = `${state.node} · Evergate`;
  byId('troubles-section').hidden = state.troubles.length === 0;
  byId('troubles').replaceChildren(...state.troubles.map((trouble) => made('li', trouble)));

  const deliveries = rate(figures, seconds, 'evergate_delivery_seconds_count');
  const spent = rate(figures, seconds, 'evergate_delivery_seconds_sum');
  const open = sum(figures, 'evergate_connections_open');
  const memory = sum(figures, 'process_resident_memory_bytes');
  cards(byId('now'), [
    ['Connections', open === undefined ? undefined : count(open), `of ${count(sum(figures, 'evergate_connections_max'))}`],
    ['Event streams', open === undefined ? undefined : count(sum(figures, 'evergate_streams_open'))],
    ['Delivered', open === undefined ? undefined : count(rate(figures, seconds, 'evergate_delivered_events_total')), 'events a second'],
    ['Published', open === undefined ? undefined : count(rate(figures, seconds, 'evergate_publish_events_total', 'result="published"')), 'events a second'],
    ['Accepted to written', deliveries ? (1000 * spent / deliveries).toFixed(1) : open === undefined ? undefined : '–', 'ms, mean'],
    ['Sent', open === undefined ? undefined : count((rate(figures, seconds, 'evergate_delivered_bytes_total') ?? NaN) / 1024), 'KiB a second'],
    ['Gaps told', open === undefined ? undefined : count(sum(figures, 'evergate_gaps_total')), 'since start'],
    ['Memory', memory === undefined ? undefined : count(memory / 1048576), 'MiB'],
  ]);
  const of = (name) => sum(figures, name);
  const cluster = [
    ['Lease', of('evergate_lease_held') === undefined ? undefined : of('evergate_lease_held') ? 'held' : 'lost'],
    ['View', of('evergate_view_version') === undefined ? undefined : count(of('evergate_view_version')), 'version'],
    ['Age of the view', state.cluster?.age_ms == null ? undefined : (state.cluster.age_ms / 1000).toFixed(1), 's'],
    ['Ring', of('evergate_ring_version') === undefined ? undefined : count(of('evergate_ring_version')), 'version'],
    ['Raft', of('evergate_raft_term') === undefined ? undefined : of('evergate_raft_is_leader') ? 'leads' : of('evergate_raft_has_leader') ? 'follows' : 'no leader', `term ${count(of('evergate_raft_term'))}`],
    ['Members', of('evergate_raft_members') === undefined ? undefined : count(of('evergate_raft_members'))],
  ].filter(([, value]) => value !== undefined);
  byId('cluster-section').hidden = cluster.length === 0;
  cards(byId('cluster'), cluster);
  showNodes(state.cluster);
  showJournal(state.journal);

  byId('streams-table').hidden = state.streams.length === 0;
  byId('no-streams').hidden = state.streams.length !== 0;
  showStreams(state.streams, seconds);

  const ends = [
    ...rows(figures, 'evergate_streams_ended_total', 'ended'),
    ...rows(figures, 'evergate_busy_total', 'told to come back'),
    ...rows(figures, 'evergate_gaps_total', 'told of a gap'),
    ...rows(figures, 'evergate_connections_refused_total', 'connection refused'),
  ];
  byId('ends').replaceChildren(
    ...ends.map(([what, why, value]) => {
      const row = document.createElement('tr');
      row.append(made('td', what), made('td', why), made('td', count(value), 'number'));
      return row;
    }),
  );
  if (before) {
    for (const [name, what] of [['evergate_gaps_total', 'told of a gap'], ['evergate_slow_disconnects_total', 'too slow, disconnected']]) {
      const risen = (of(name) ?? 0) - (sum(before.figures, name) ?? 0);
      if (risen > 0) note(`${count(risen)} subscribers ${what}`);
    }
    if (before.stage !== state.stage) note(`The process is ${state.stage}`);
    const fewer = (sum(before.figures, 'evergate_streams_open') ?? 0) - (of('evergate_streams_open') ?? 0);
    if (fewer >= 10) note(`${count(fewer)} streams ended within a second`);
    for (const trouble of state.troubles.filter((trouble) => !before.troubles.includes(trouble))) note(trouble);
  }
  before = { at: now, figures, stage: state.stage, troubles: state.troubles, heads: new Map(state.streams.map(({ stream, head }) => [stream, head])) };
}

/** Rows stay where they are while their numbers change, so that the keyboard's place is kept. */
function showStreams(streams, seconds) {
  const body = byId('streams');
  const known = new Map([...body.children].map((row) => [row.dataset.stream, row]));
  for (const { stream, head } of streams) {
    let row = known.get(stream);
    known.delete(stream);
    if (!row) {
      row = document.createElement('tr');
      row.dataset.stream = stream;
      const button = made('button', 'Look');
      button.type = 'button';
      button.setAttribute('aria-label', `Look at ${stream}`);
      button.addEventListener('click', () => look(stream));
      const last = document.createElement('td');
      last.append(button);
      row.append(made('td', stream), made('td', ''), made('td', '', 'number'), last);
      body.append(row);
    }
    const earlier = before?.heads.get(stream);
    const risen = earlier === undefined ? undefined : (Number(head.split('-')[1]) - Number(earlier.split('-')[1])) / seconds;
    row.children[1].textContent = head;
    row.children[2].textContent = count(risen);
  }
  for (const row of known.values()) row.remove();
}

/** How much of a stream is kept, in words. */
function kept({ events, bytes, age_s: age }) {
  const bounds = [
    events === null ? undefined : `${count(events)} events`,
    bytes === null ? undefined : `${count(bytes / 1048576)} MiB`,
    age === null ? undefined : age >= 7200 ? `${count(age / 3600)} h` : `${count(age)} s`,
  ].filter((bound) => bound !== undefined);
  return bounds.length === 0 ? 'everything' : bounds.join(', ');
}

async function look(stream) {
  const again = looking === stream;
  looking = stream;
  const answer = await fetch(`/admin/stream?${new URLSearchParams({ stream })}`);
  if (looking !== stream) return;
  const told = await answer.json();
  byId('look').hidden = false;
  byId('look-title').textContent = stream;
  if (!answer.ok) {
    cards(byId('look-facts'), [['It cannot be looked at', told.detail]]);
    byId('look-events').replaceChildren();
  } else {
    cards(byId('look-facts'), [
      ['Newest', told.tail],
      ['Not committed', count(told.uncommitted), 'events'],
      ['Removed up to', told.floor],
      ['Kept', count(told.bytes / 1024), 'KiB'],
      ['Kept at most', kept(told.retention)],
      ['Level', told.level],
    ]);
    byId('look-events').replaceChildren(
      ...told.events.map((event) => {
        const row = document.createElement('tr');
        row.append(...[event.id, event.accepted, event.key ?? '', event.type ?? '', event.data].map((text) => made('td', text)));
        return row;
      }),
    );
  }
  if (!again) byId('look-title').focus();
}

byId('look-again').addEventListener('click', () => look(looking));
byId('look-close').addEventListener('click', () => {
  byId('look').hidden = true;
  const row = [...byId('streams').children].find((row) => row.dataset.stream === looking);
  looking = null;
  (row?.querySelector('button') ?? byId('main')).focus();
});

const link = (state) => {
  byId('link').dataset.link = state;
  byId('link').textContent = state;
};
const source = new EventSource('/admin/events');
source.addEventListener('open', () => link('live'));
source.addEventListener('error', () => link(source.readyState === EventSource.CLOSED ? 'lost' : 'connecting'));
source.addEventListener('state', (event) => {
  link('live');
  show(JSON.parse(event.data));
});
