// The page: controls, what is picked, and the loop that draws. Text from data only ever becomes a text node.

const SPEEDS = [1, 2, 5, 10, 20, 50, 100, 200];
const LOG_ROWS = 60;
const FACTS = {
  altitude: (s) => `${Math.round(s.altitude)} ft`,
  assigned: (s) => (s.cleared ? `ILS ${s.runway?.name ?? ''}` : s.assigned > 0 ? `${Math.round(s.assigned)} ft` : '–'),
  'ground speed': (s) => `${Math.round(s.speed)} kt`,
  'indicated speed': (s) => `${Math.round(s.airspeed)} kt`,
  heading: (s) => `${String(Math.round(s.heading) || 360).padStart(3, '0')}°`,
  runway: (s) => s.runway?.name ?? '–',
  'next fix': (s) => s.route?.slice(s.leg).find((fix) => fix[0])?.[0] ?? '–',
  phase: (s) => s.phase.toLowerCase(),
  disagreement: (s) => s.doubt?.toFixed(2) ?? '–',
};

const state = { time: 0, playing: false, speed: 20, picked: null, rings: false, dirty: true };
let scopes = [], total = 0;
const find = (id) => document.getElementById(id);

function element(tag, text = '', className = '') {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

function buildScope(episode, i) {
  const panel = element('section', '', 'scope'), canvas = element('canvas');
  const title = element('h2', episode.title), terms = element('span', '', 'terms');
  title.append(terms);
  panel.append(title, canvas);
  find('scopes').append(panel);
  const timeline = element('canvas', '', 'timeline');
  timeline.setAttribute('aria-label', `timeline of ${episode.title}`);
  find('timelines').append(timeline);
  const same = scopes.find((scope) => scope.episode.icao === episode.icao);
  const view = same ? same.view : fitView(episode.map);
  const scope = { episode, canvas, terms, timeline, view, spots: new Map(), states: [], map: element('canvas'), number: i };
  listenToScope(scope);
  listenToTimeline(scope);
  scopes.push(scope);
}

function listenToScope(scope) {
  const { canvas, view } = scope;
  let held = null;
  canvas.addEventListener('pointerdown', (event) => {
    held = { x: event.offsetX, y: event.offsetY, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!held) return;
    const [dx, dy] = [event.offsetX - held.x, event.offsetY - held.y];
    if (!held.moved && Math.hypot(dx, dy) < 4) return;
    view.x -= dx / scope.project.scale;
    view.y += dy / scope.project.scale;
    held = { x: event.offsetX, y: event.offsetY, moved: true };
    redrawMaps();
  });
  canvas.addEventListener('pointerup', (event) => {
    if (held && !held.moved) pick(nearestTo(scope, event.offsetX, event.offsetY));
    held = null;
  });
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    zoomAt(scope, event.offsetX, event.offsetY, Math.exp(-event.deltaY / 500));
  }, { passive: false });
}

function zoomAt(scope, px, py, factor) {
  const [x, y] = scope.project.from(px, py);
  const zoom = Math.max(0.4, Math.min(40, scope.view.zoom * factor));
  const share = scope.view.zoom / zoom;
  Object.assign(scope.view, { zoom, x: x + (scope.view.x - x) * share, y: y + (scope.view.y - y) * share });
  redrawMaps();
}

function nearestTo(scope, px, py) {
  const away = (one) => Math.hypot(one.px - px, one.py - py);
  const near = scope.states.filter((one) => away(one) < 20).sort((a, b) => away(a) - away(b));
  return near[0]?.flight.callsign ?? null;
}

function listenToTimeline(scope) {
  const { timeline, episode } = scope;
  timeline.addEventListener('pointerdown', (event) => {
    timeline.setPointerCapture(event.pointerId);
    const item = itemAt(episode, event.offsetX, event.offsetY, total, timeline.clientWidth);
    if (item) goTo(episode, item);
    else seek(timelineTime(event.offsetX, total, timeline.clientWidth));
  });
  timeline.addEventListener('pointermove', (event) => {
    if (event.buttons) seek(timelineTime(event.offsetX, total, timeline.clientWidth));
    const item = itemAt(episode, event.offsetX, event.offsetY, total, timeline.clientWidth);
    timeline.title = item ? `${clockText(item.time)} ${item.text}` : '';
  });
}

function goTo(episode, item) {
  seek(item.time);
  if (item.ids.length) pick(episode.names.get(item.ids[0]) ?? null);
}

function seek(time) {
  state.time = Math.max(0, Math.min(total, time));
  state.dirty = true;
}

function pick(callsign) {
  state.picked = callsign;
  find('pick').value = callsign ?? '';
  state.dirty = true;
}

function pickNext(step) {
  const here = scopes.flatMap((scope) => scope.states.filter((one) => !one.ground).map((one) => one.flight.callsign));
  const names = [...new Set(here)].sort();
  if (names.length) pick(names[(names.indexOf(state.picked) + step + names.length + (state.picked ? 0 : step < 0)) % names.length]);
}

function play(on) {
  if (on && state.time >= total) state.time = 0;
  state.playing = on;
  find('play').textContent = on ? 'pause' : 'play';
  state.dirty = true;
}

function setSpeed(speed) {
  state.speed = speed;
  find('speed').value = String(speed);
}

function faster(step) {
  const i = SPEEDS.indexOf(state.speed) + step;
  setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, i))]);
}

function setRings(on) {
  state.rings = on;
  find('rings').checked = on;
  state.dirty = true;
}

function fit() {
  for (const scope of scopes) Object.assign(scope.view, fitView(scope.episode.map));
  redrawMaps();
}

const KEYS = {
  ' ': () => play(!state.playing),
  ArrowLeft: (event) => seek(state.time - (event.shiftKey ? 60 : 5)),
  ArrowRight: (event) => seek(state.time + (event.shiftKey ? 60 : 5)),
  ArrowUp: () => pickNext(-1),
  ArrowDown: () => pickNext(1),
  '+': () => faster(1),
  '=': () => faster(1),
  '-': () => faster(-1),
  Home: () => seek(0),
  End: () => seek(total),
  Escape: () => (find('help').open ? find('help').close() : pick(null)),
  f: fit,
  r: () => setRings(!state.rings),
  '?': () => (find('help').open ? find('help').close() : find('help').show()),
};

function listenToKeys() {
  document.addEventListener('keydown', (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act(event);
  });
}

function listenToControls() {
  for (const speed of SPEEDS) find('speed').append(new Option(`${speed}×`, String(speed)));
  setSpeed(state.speed);
  const names = new Set(scopes.flatMap((scope) => scope.episode.flights.map((flight) => flight.callsign)));
  find('pick').append(new Option('no aircraft', ''), ...[...names].sort().map((name) => new Option(name, name)));
  find('scrub').max = String(total);
  find('play').addEventListener('click', () => play(!state.playing));
  find('speed').addEventListener('change', (event) => setSpeed(Number(event.target.value)));
  find('pick').addEventListener('change', (event) => pick(event.target.value || null));
  find('scrub').addEventListener('input', (event) => seek(Number(event.target.value)));
  find('rings').addEventListener('change', (event) => setRings(event.target.checked));
  find('ask').addEventListener('click', KEYS['?']);
  for (const control of document.querySelectorAll('button, select, input')) {
    control.addEventListener('change', () => control.blur());
    control.addEventListener('click', () => control.tagName === 'BUTTON' && control.blur());
  }
}

// A canvas of the size it is shown at; returns its context, in CSS pixels.
function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

function redrawMaps() {
  for (const scope of scopes) {
    const { clientWidth: width, clientHeight: height } = scope.canvas;
    Object.assign(scope, { width, height, project: projection(scope.view, width, height) });
    drawMap(sized(scope.map, width, height), scope.episode.map, scope.project, width, height);
  }
  state.dirty = true;
}

function layOut() {
  for (const scope of scopes) {
    scope.context = sized(scope.canvas, scope.canvas.clientWidth, scope.canvas.clientHeight);
    const { clientWidth: width, clientHeight: height } = scope.timeline;
    scope.strip = scope.strip ?? element('canvas');
    drawTimeline(sized(scope.strip, width, height), scope.episode, total, width, height);
    scope.line = sized(scope.timeline, width, height);
  }
  const profile = find('profile');
  state.profile = sized(profile, profile.clientWidth, profile.clientHeight);
  redrawMaps();
}

function draw() {
  for (const scope of scopes) {
    const { context, width, height } = scope;
    context.drawImage(scope.map, 0, 0, width, height);
    drawTraffic(context, scope, state.time, state.picked, state);
    drawCursor(scope);
    scope.terms.textContent = termsAt(scope.episode, state.time);
  }
  const { clientWidth, clientHeight } = find('profile');
  drawProfile(state.profile, scopes, state.picked, state.time, clientWidth, clientHeight);
  find('clock').textContent = clockText(state.time);
  find('scrub').value = String(state.time);
  showFacts();
  showLog();
}

function drawCursor({ line, strip, timeline }) {
  const { clientWidth: width, clientHeight: height } = timeline;
  line.drawImage(strip, 0, 0, width, height);
  line.fillStyle = '#ffffff';
  line.fillRect(timelineX(state.time, total, width) - 0.5, 0, 1, height - 10);
}

function showFacts() {
  const table = find('facts');
  table.replaceChildren();
  if (!state.picked) return;
  const shown = scopes.map((scope) => scope.states.find((one) => one.flight.callsign === state.picked));
  const row = (name, cells, tag) => {
    const made = element('tr');
    made.append(element('th', name), ...cells.map((cell) => element(tag, cell)));
    table.append(made);
  };
  row(state.picked, scopes.map((scope, i) => (shown[i] ? shown[i].flight.category : 'not there')), 'th');
  for (const [name, read] of Object.entries(FACTS)) {
    if (name === 'disagreement' && !scopes.some((scope) => scope.episode.doubts)) continue;
    row(name, shown.map((one) => (one ? read(one) : '')), 'td');
  }
}

function showLog() {
  const past = scopes.flatMap(({ episode, number }) =>
    episode.happened.filter((item) => item.time <= state.time).slice(-LOG_ROWS).map((item) => ({ item, episode, number })));
  past.sort((a, b) => b.item.time - a.item.time);
  const key = past.length ? `${past.length} ${past[0].item.time} ${past[0].item.text}` : '';
  if (key === state.logged) return;
  state.logged = key;
  find('log').replaceChildren(...past.slice(0, LOG_ROWS).map(logRow));
}

function logRow({ item, episode, number }) {
  const row = element('li', '', item.kind), side = scopes.length > 1 ? ['left ', 'right '][number] : '';
  row.append(element('time', clockText(item.time)), element('i', side), element('span', item.text));
  row.addEventListener('click', () => goTo(episode, item));
  return row;
}

let before = 0;
function frame(now) {
  const passed = Math.min(0.25, (now - before) / 1000);
  before = now;
  if (state.playing) {
    seek(state.time + passed * state.speed);
    if (state.time >= total) play(false);
  }
  if (state.dirty) draw();
  state.dirty = false;
  requestAnimationFrame(frame);
}

// What an address asks for, such as page.html#t=1800&pick=SWA12&play=1.
function obey(hash) {
  const asked = new URLSearchParams(hash.slice(1));
  if (asked.has('t')) seek(Number(asked.get('t')) || 0);
  if (asked.has('pick')) pick(asked.get('pick'));
  if (asked.has('speed')) setSpeed(Number(asked.get('speed')) || state.speed);
  if (asked.has('zoom')) scopes.forEach((scope) => Object.assign(scope.view, { zoom: Number(asked.get('zoom')) || 1 }));
  if (asked.has('rings')) setRings(asked.get('rings') === '1');
  play(asked.get('play') === '1');
}

async function start() {
  const episodes = await Promise.all(JSON.parse(find('data').textContent).map(unpackEpisode));
  total = Math.max(...episodes.map((episode) => episode.duration));
  begin = episodes[0].begin_s;
  episodes.forEach(buildScope);
  document.title = episodes.map((episode) => episode.title).join(' | ');
  listenToControls();
  listenToKeys();
  obey(window.location.hash);
  layOut();
  new ResizeObserver(layOut).observe(find('scopes'));
  document.body.dataset.ready = 'yes';
  requestAnimationFrame(frame);
}

start();
