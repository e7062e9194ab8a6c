// Lock-step bridge to an unmodified openScope page: the game advances only when
// `openscopeBridge.step` runs its frames, and the same way every time.
//
// config: {seed, airport, epoch_ms, frame_s, plain, picture_px, palette, zoom,
//          schema: {aircraft, substeps, runways}, constants: {CATEGORIES, PHASES, ...},
//          events: {name: points}}
// The schemas are {field: {source, default}}; `source` is JavaScript over `a` (an aircraft), `b`
// (the helpers in aircraft.js), `p` (its position, km) and `r` (a runway).

const logLines = [];
const keepLog = (mutations) => {
  for (const mutation of mutations) {
    for (const node of mutation.addedNodes) {
      logLines.push([node.textContent.trim(), node.classList.contains('warn')]);
    }
  }
};
const logObserver = new MutationObserver(keepLog);

// Refuses all but commands to aircraft: timewarp, pause, clear, airport and the like change the simulation.
// No such word has a digit, and every callsign has one. The game itself answers a callsign that nobody has.
const DELETE = ['del', 'delete', 'kill'];

function refuseAllButSteering(text) {
  const [callsign, ...words] = text.trim().toLowerCase().split(' ').filter(Boolean);
  const known = callsign && callsign !== '*' && list().some((a) => a.matchCallsign(callsign));
  if (!known && !/\d/.test(callsign ?? '')) {
    throw new Error(
      `"${text}" is no command to an aircraft: begin with a callsign, such as "AAL123 d 40"`,
    );
  }
  if (words.some((word) => DELETE.includes(word))) {
    throw new Error(`"${text}" would take the aircraft out of the game: give a command that steers it`);
  }
}

function typeCommand(text) {
  const input = document.getElementById('command');
  input.value = text;
  refuseAllButSteering(input.value); // what the game will read: the field drops line breaks
  input.dispatchEvent(new KeyboardEvent('keydown', { code: 'Enter', bubbles: true }));
  for (const a of list()) {
    const record = records.get(a);
    record.route = routeId(a);
    record.leg = legIndex(a); // a leg skipped by the command is not a change within the frames
  }
}

// Run the frames of a decision, with a picture of each of its `pictures` equal parts.
function runFrames(frames, pictures) {
  const rows = new Map(); // aircraft -> its sub-steps [frames, fields]
  const events = [];
  const shots = [];
  const columns = SUBSTEP_DEFAULTS.length;
  for (const a of list()) {
    const record = records.get(a);
    record.phaseFrame = record.legFrame = -1;
  }
  for (let frame = 0; frame < frames; frame++) {
    runFrame();
    const entrants = [];
    for (const a of list()) {
      const record = observe(a, frame);
      for (let n = areasEntered(a, record); n > 0; n--) entrants.push(a);
      if (!rows.has(a)) {
        const out = new Float32Array(frames * columns);
        for (let i = 0; i < out.length; i++) out[i] = SUBSTEP_DEFAULTS[i % columns];
        rows.set(a, out);
      }
      writeSubstep(a, b, record.position, rows.get(a), frame * columns);
    }
    events.push(...readEvents(frame, entrants));
    if (pictures && (frame + 1) % (frames / pictures) === 0) shots.push(shot());
  }
  return { rows, events, shots };
}

function substepBlock(rows, frames) {
  const columns = SUBSTEP_DEFAULTS.length;
  const out = new Float32Array(frames * rows.size * (1 + columns));
  let i = 0;
  for (let frame = 0; frame < frames; frame++) {
    for (const [a, values] of rows) {
      out[i] = b.number(a);
      out.set(values.subarray(frame * columns, (frame + 1) * columns), i + 1);
      i += 1 + columns;
    }
  }
  return out;
}

// Typed arrays, one after the other, as base64.
function binary(blocks) {
  let text = '';
  for (const block of blocks) {
    const bytes = new Uint8Array(block.buffer, block.byteOffset, block.byteLength);
    for (let i = 0; i < bytes.length; i += 32768) {
      text += String.fromCharCode.apply(null, bytes.subarray(i, i + 32768));
    }
  }
  return btoa(text);
}

const shot = () => ({ page: shownPage(), data: picture() });

const sentCallsigns = new Set();
const sentRoutes = new Set();
function unsent(all, sent) {
  const fresh = Object.entries(all).filter(([key]) => !sent.has(key));
  fresh.forEach(([key]) => sent.add(key));
  return Object.fromEntries(fresh);
}

// The state after a step as 'JSON header \n base64 of float32 blocks \n pictures, a space between two'.
function answer(frames, { rows, events, shots }) {
  const aircraft = table(list(), config.schema.aircraft, writeAircraft);
  const runwayTable = table(runways(), config.schema.runways, writeRunway);
  const sinceSpawn = lastSpawn.map((time) => since(time));
  keepLog(logObserver.takeRecords());
  const score = Number(document.getElementById('score').textContent);
  const header = {
    time_s: now(),
    score: Number.isFinite(score) ? score : 0, // a dash until something is scored
    aircraft: [list().length, width(config.schema.aircraft)],
    substeps: [frames, rows.size, 1 + width(config.schema.substeps)],
    runways: [runways().length, width(config.schema.runways)],
    since_spawn_s: [sinceSpawn.length],
    events,
    wind: [airport.wind.speed, b.wrap(airport.wind.angle)],
    callsigns: unsent(callsigns, sentCallsigns),
    routes: unsent(routes, sentRoutes),
    log: logLines.splice(0),
    picture_pages: shots.map(({ page }) => page),
  };
  const blocks = [aircraft, substepBlock(rows, frames), runwayTable, Float32Array.from(sinceSpawn)];
  return [JSON.stringify(header), binary(blocks), shots.map(({ data }) => data).join(' ')].join('\n');
}

function step(command, frames, pictures) {
  if (command) typeCommand(command);
  const seen = runFrames(frames, pictures);
  compareClocks();
  return answer(frames, seen);
}

// 'blank' where no game has begun to load, 'loading', 'ready', or the reason why it never will be ready.
function state() {
  if (!window.prop) return 'blank';
  if (!window.prop.loaded || !frameRequests.size || requestsUnderWay) return 'loading';
  return window.aircraftController ? 'ready' : 'the page has no aircraftController';
}

function setInput(name, value) {
  const input = [...document.querySelectorAll('input[type=range]')].find((e) => e.name === name);
  if (!input) throw new Error(`the game's traffic dialog has no slider "${name}"`);
  input.value = String(value);
  input.dispatchEvent(new Event('change', { bubbles: true }));
  if (Number(input.value) !== value) {
    throw new Error(`the game's slider "${name}" took ${input.value} instead of ${value}`);
  }
}

// Start the episode; options: {traffic: {category: factor} or null, wind: [from_deg, kt] or null}.
// Returns [airport tables as JSON, the first answer]; with pictures on a page of another zoom than fits,
// the zoom for which to load it again.
async function begin(options) {
  const first = list().find((a) => a.fms.arrivalAirportModel || a.fms.departureAirportModel);
  if (!first) throw new Error(`airport "${config.airport}" starts without any traffic`);
  airport = first.fms.arrivalAirportModel ?? first.fms.departureAirportModel;
  if (airport.icao !== config.airport) throw await wrongAirport(airport.icao);
  refuse(missingParts(first));
  if (config.picture_px && config.zoom !== fittingZoom()) return fittingZoom();
  const file = await (await fetch(`assets/airports/${config.airport}.json`)).json();
  const patterns = file.spawnPatterns;
  patterns.forEach((pattern, index) => {
    const key = `${pattern.category}|${pattern.route.toUpperCase()}`;
    if (!streams.has(key)) streams.set(key, index);
  });
  lastSpawn = patterns.map(() => -1);
  takeOverTimers();
  Math.random = generator(config.seed + 1); // whatever the page drew while it loaded
  for (const [category, factor] of Object.entries(options.traffic ?? {})) {
    if (patterns.some((pattern) => pattern.category === category)) setInput(category, factor);
  }
  if (options.wind) {
    setInput('wind direction', options.wind[0]);
    setInput('wind speed', options.wind[1]);
  }
  if (!config.plain) idle();
  if (config.picture_px) prepareScope();
  listen();
  for (let i = 0; i < WARM_UP_FRAMES; i++) runFrame();
  startMs = clockMs;
  gameStart = gameClock._accumulatedDeltaTime;
  linesRead = scoreLines().length;
  logObserver.observe(document.getElementById('log'), { childList: true });
  for (const a of list()) observe(a, -1);
  refuse(missingFields(list()[0]));
  const { rows, events } = runFrames(0, 0);
  const shots = config.picture_px ? [shot()] : [];
  return [JSON.stringify(describeAirport(patterns)), answer(0, { rows, events, shots })];
}

window.openscopeBridge = { state, begin, step };
