// Lock-step bridge to an unmodified openScope page. Injected before the game's bundle as
// `(this function)(config)`; it takes over the page's clock, its timers and its randomness, so that
// the game advances only when `openscopeBridge.step` runs its frames, and the same way every time.
//
// config: {seed, airport, epoch_ms, frame_s, picture_px, schema: {aircraft, substeps, runways},
//          constants: {CATEGORIES, PHASES, ...}, events: {name: points}}
// The schemas are {field: {source, default}}; `source` is JavaScript over `a` (an aircraft), `b`
// (helpers below), `p` (its position, km) and `r` (a runway). See wm/traffic.py.
(config) => {
  'use strict';

  const KM_PER_NM = 1.852;
  const TAU = 2 * Math.PI;
  const WARM_UP_FRAMES = 2; // the game's clock needs two frames before its first time step

  // ---------------------------------------------------------------- clock, timers, randomness

  const native = {
    Date,
    setTimeout: window.setTimeout.bind(window),
    setInterval: window.setInterval.bind(window),
    clearTimeout: window.clearTimeout.bind(window),
  };
  let clockMs = 0;
  let startMs = 0; // of the episode, after the warm-up frames
  let stepping = false;
  const now = () => (clockMs - startMs) / 1000;

  window.Date = new Proxy(native.Date, {
    construct: (target, args) =>
      args.length ? new target(...args) : new target(config.epoch_ms + clockMs),
    apply: (target) => new target(config.epoch_ms + clockMs).toString(),
    get: (target, key) => (key === 'now' ? () => config.epoch_ms + clockMs : target[key]),
  });
  performance.now = () => clockMs;

  let frameRequests = new Map();
  let lastId = 0;
  window.requestAnimationFrame = (callback) => {
    frameRequests.set(++lastId, callback);
    return lastId;
  };
  window.cancelAnimationFrame = (id) => frameRequests.delete(id);

  // While the page loads, timers are the browser's own (jQuery's deferreds wait for them); from the
  // first step on they follow the virtual clock.
  const timers = new Map();
  const schedule = (repeats) => (callback, delayMs, ...args) => {
    const id = ++lastId;
    const delay = Math.max(repeats ? 1 : 0, Number(delayMs) || 0);
    const timer = { callback, args, delay, repeats, dueMs: clockMs + delay };
    timers.set(id, timer);
    if (!stepping) {
      timer.nativeId = (repeats ? native.setInterval : native.setTimeout)(() => {
        if (!repeats) timers.delete(id);
        callback(...args);
      }, delay);
    }
    return id;
  };
  window.setTimeout = schedule(false);
  window.setInterval = schedule(true);
  window.clearTimeout = window.clearInterval = (id) => {
    if (timers.has(id)) native.clearTimeout(timers.get(id).nativeId);
    timers.delete(id);
  };

  function takeOverTimers() {
    stepping = true;
    for (const timer of timers.values()) {
      native.clearTimeout(timer.nativeId);
      timer.dueMs = clockMs + timer.delay;
    }
  }

  function fireTimersUntil(targetMs) {
    for (;;) {
      let first = null;
      for (const [id, timer] of timers) {
        if (timer.dueMs <= targetMs && (!first || timer.dueMs < first[1].dueMs)) first = [id, timer];
      }
      if (!first) break;
      const [id, timer] = first;
      clockMs = Math.max(clockMs, timer.dueMs);
      if (timer.repeats) timer.dueMs = clockMs + timer.delay;
      else timers.delete(id);
      timer.callback(...timer.args);
    }
    clockMs = targetMs;
  }

  function runFrame() {
    fireTimersUntil(clockMs + 1000 * config.frame_s);
    const callbacks = frameRequests;
    frameRequests = new Map();
    for (const callback of callbacks.values()) callback(clockMs);
  }

  // sfc32, seeded through a mixing generator so that neighbouring seeds share nothing.
  function generator(seed) {
    let mix = seed | 0;
    const word = () => {
      mix = (mix + 0x9e3779b9) | 0;
      let t = mix ^ (mix >>> 16);
      t = Math.imul(t, 0x21f0aaad);
      t ^= t >>> 15;
      t = Math.imul(t, 0x735a2d97);
      return (t ^ (t >>> 15)) >>> 0;
    };
    let [a, b, c, d] = [word(), word(), word(), 1];
    const next = () => {
      const t = (((a + b) | 0) + d) | 0;
      d = (d + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = ((c << 21) | (c >>> 11)) + t | 0;
      return (t >>> 0) / 4294967296;
    };
    for (let i = 0; i < 12; i++) next();
    return next;
  }
  Math.random = generator(config.seed);

  // Another page or window taking the focus must not pause the game.
  for (const name of ['blur', 'focus', 'visibilitychange']) {
    window.addEventListener(
      name,
      (event) => {
        if (event.target === window || event.target === document) event.stopImmediatePropagation();
      },
      true,
    );
  }
  Object.defineProperty(document, 'hidden', { get: () => false });
  Object.defineProperty(document, 'visibilityState', { get: () => 'visible' });

  localStorage.clear();
  localStorage['atc-last-airport'] = config.airport;

  let requestsUnderWay = 0; // the page's data files; the first frame waits for all of them
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (...args) {
    requestsUnderWay++;
    this.addEventListener('loadend', () => native.setTimeout(() => requestsUnderWay--, 0));
    return send.apply(this, args);
  };

  // ---------------------------------------------------------------- what is remembered of aircraft

  let airport = null;
  let streams = new Map(); // 'category|ROUTE' -> index in the airport file
  const records = new WeakMap();
  const callsigns = {};
  const routeIds = new Map();
  const routes = {};
  let lastSpawn = [];
  let aircraftSeen = 0;
  const list = () => window.prop.aircraft.list;

  function firstSight(a) {
    const record = {
      number: aircraftSeen++,
      spawned: now(),
      phase: a.flightPhase,
      phaseSince: now(),
      contact: -1,
      takeoff: -1,
      leg: legIndex(a),
      route: routeId(a),
      stream: streams.get(`${a.category}|${routeString(a)}`) ?? -1,
      position: a.relativePosition,
      inside: 0,
      phaseFrame: -1,
      legFrame: -1,
    };
    records.set(a, record);
    callsigns[record.number] = a.callsign;
    if (record.stream >= 0) lastSpawn[record.stream] = now();
    if (a.flightPhase === 'TAKEOFF') record.takeoff = now();
    return record;
  }

  // Bring the record of `a` up to date after frame `frame` of this step (-1: no frame was run).
  function observe(a, frame) {
    const record = records.get(a) ?? firstSight(a);
    record.position = a.relativePosition;
    if (record.contact < 0 && a.isControllable) record.contact = now();
    if (a.flightPhase !== record.phase) {
      if (a.flightPhase === 'TAKEOFF') record.takeoff = now();
      record.phase = a.flightPhase;
      record.phaseSince = now();
      if (record.phaseFrame < 0) record.phaseFrame = frame;
    }
    const leg = legIndex(a);
    if (leg !== record.leg) {
      record.leg = leg;
      if (record.legFrame < 0) record.legFrame = frame;
    }
    return record;
  }

  const routeModel = (a) => a.fms._routeModel;
  const routeString = (a) => routeModel(a).getFullRouteString().toUpperCase();

  function legIndex(a) {
    const model = routeModel(a);
    let index = model._legCollection[0]._previousWaypointCollection.length;
    for (const leg of model._previousLegCollection) {
      index += leg._previousWaypointCollection.length + leg._waypointCollection.length;
    }
    return index;
  }

  function describeWaypoint(waypoint, leg) {
    const position = waypoint.isVectorWaypoint ? null : waypoint.relativePosition;
    return {
      name: waypoint.name,
      x_nm: position ? position[0] / KM_PER_NM : null,
      y_nm: position ? position[1] / KM_PER_NM : null,
      vector_rad: waypoint.isVectorWaypoint ? b.wrap(waypoint.getVector()) : null,
      altitude_min_ft: waypoint.altitudeMinimum,
      altitude_max_ft: waypoint.altitudeMaximum,
      speed_min_kt: waypoint.speedMinimum,
      speed_max_kt: waypoint.speedMaximum,
      fly_over: waypoint.isFlyOverWaypoint,
      hold: waypoint.isHoldWaypoint,
      on_sid: leg.isSidLeg,
    };
  }

  // The full route, flown and remaining; a new number for each route not met before.
  function routeId(a) {
    const model = routeModel(a);
    const legs = [...model._previousLegCollection, ...model._legCollection];
    const route = {
      route: routeString(a),
      waypoints: legs.flatMap((leg) =>
        [...leg._previousWaypointCollection, ...leg._waypointCollection].map((waypoint) =>
          describeWaypoint(waypoint, leg),
        ),
      ),
    };
    const key = JSON.stringify(route);
    if (!routeIds.has(key)) {
      routes[routeIds.size] = route;
      routeIds.set(key, routeIds.size);
    }
    return routeIds.get(key);
  }

  // ---------------------------------------------------------------- helpers named in the schema

  const codes = Object.fromEntries(
    Object.entries(config.constants).map(([name, values]) => [
      name,
      new Map(values.map((value, index) => [value, index])),
    ]),
  );

  const b = {
    number: (a) => records.get(a).number,
    position: (a) => records.get(a).position,
    wrap(angle) {
      const wrapped = Math.fround(((angle % TAU) + TAU) % TAU);
      return wrapped >= TAU ? 0 : wrapped; // rounding to float32 may reach the full turn
    },
    code(name, value) {
      if (value === null || value === undefined || value === '') return -1;
      const index = codes[name].get(value);
      if (index === undefined) throw new Error(`unknown value "${value}" among ${name}`);
      return index;
    },
    targetHeading(a) {
      let heading;
      try {
        heading = a.targetHeading; // undefined for aircraft that have never been given one
      } catch {
        heading = a.heading;
      }
      return b.wrap(Number.isFinite(heading) ? heading : a.heading);
    },
    turn: (side) => (side === 'left' ? -1 : side === 'right' ? 1 : 0),
    runway(a) {
      const runway = a.fms.arrivalRunwayModel ?? a.fms.departureRunwayModel;
      return runway ? runways().indexOf(runway) : -1;
    },
    route: (a) => records.get(a).route,
    leg: (a) => records.get(a).leg,
    stream: (a) => records.get(a).stream,
    queuePosition: (a) => a.fms.departureRunwayModel?.getAircraftQueuePosition(a.id) ?? -1,
    sinceSpawn: (a) => now() - records.get(a).spawned,
    sincePhase: (a) => now() - records.get(a).phaseSince,
    sinceContact: (a) => since(records.get(a).contact),
    // The game's own reckoning: an overflight, which never took off, counts from the game's start.
    sinceTakeoff(a) {
      if (a.category === 'overflight') return now();
      return a.category === 'arrival' ? b.sinceSpawn(a) : since(records.get(a).takeoff);
    },
    runwayClass: (a) => a.model.category.srs ?? 3,
    legChangeFrame: (a) => records.get(a).legFrame,
    phaseChangeFrame: (a) => records.get(a).phaseFrame,
    lastDeparture: (r) => departed(r, (a) => b.number(a), -1),
    lastDepartureDistance: (r) =>
      departed(r, (a) => a.positionModel.distanceToPosition(r.positionModel), -1),
    lastDepartureClass: (r) => departed(r, (a) => b.runwayClass(a), 3),
    lastDepartureOnGround: (r) => departed(r, (a) => a.isOnGround(), false),
    sinceDeparture: (r) => departed(r, (a) => since(records.get(a).takeoff), -1),
  };
  const since = (time) => (time < 0 ? -1 : now() - time);
  const runways = () => airport._runwayCollection.runways;
  const departed = (runway, read, otherwise) =>
    records.has(runway.lastDepartedAircraftModel)
      ? read(runway.lastDepartedAircraftModel)
      : otherwise;

  // One function per struct that writes its fields to `out` from index `i` on.
  function compile(fields, names) {
    const lines = Object.values(fields).map((field) => `out[i++] = (${field.source});`);
    return new Function(...names, 'out', 'i', lines.join('\n'));
  }
  const writeAircraft = compile(config.schema.aircraft, ['a', 'b']);
  const writeSubstep = compile(config.schema.substeps, ['a', 'b', 'p']);
  const writeRunway = compile(config.schema.runways, ['r', 'b']);
  const width = (fields) => Object.keys(fields).length;
  const SUBSTEP_DEFAULTS = Object.values(config.schema.substeps).map((field) => field.default);

  function table(items, fields, write, ...extra) {
    const columns = width(fields);
    const out = new Float32Array(items.length * columns);
    items.forEach((item, row) => write(item, b, ...extra, out, row * columns));
    const bad = out.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      const name = Object.keys(fields)[bad % columns];
      throw new Error(`field "${name}" (${fields[name].source}) is not a number`);
    }
    return out;
  }

  // Names of the fields that this version of the game does not have.
  function missingFields(a) {
    const failing = (fields, names, values) =>
      Object.entries(fields)
        .filter(([, field]) => {
          try {
            const value = new Function(...names, `return (${field.source});`)(...values);
            return typeof value !== 'boolean' && !Number.isFinite(value);
          } catch {
            return true;
          }
        })
        .map(([name, field]) => `${name} (${field.source})`);
    return [
      ...failing(config.schema.aircraft, ['a', 'b'], [a, b]),
      ...failing(config.schema.substeps, ['a', 'b', 'p'], [a, b, b.position(a)]),
      ...failing(config.schema.runways, ['r', 'b'], [runways()[0], b]),
    ];
  }

  // ---------------------------------------------------------------- score events

  const NAMES = Object.keys(config.events);
  const POINTS = Object.values(config.events);
  const withPoints = (points, names) =>
    NAMES.findIndex((name, i) => POINTS[i] === points && names.includes(name));
  const EXIT = ['AIRSPACE_BUST', 'DEPARTURE', 'NOT_CLEARED_ON_ROUTE'];
  const FULL_STOP = [
    'EXTREME_CROSSWIND_OPERATION', 'EXTREME_TAILWIND_OPERATION', 'HIGH_CROSSWIND_OPERATION',
    'HIGH_TAILWIND_OPERATION', 'NO_TAKEOFF_SEPARATION',
  ];
  // Its equal in points, ILLEGAL_APPROACH_CLEARANCE, is in the game's table but never awarded.
  const ON_APPROACH = ['LOCALIZER_INTERCEPT_ABOVE_GLIDESLOPE'];
  const UNCLAIMED = ['ARRIVAL', 'COLLISION', 'AIRSPACE_BUST', 'GO_AROUND'];

  let claims = new Map(); // line of the score log -> [aircraft, event code]
  let stopped = []; // aircraft of this frame's full stops, whose ARRIVAL line comes after the event
  let linesRead = 0;
  const collided = new WeakSet();
  const scoreLines = () => document.getElementById('score-log').children;
  const linePoints = (line) => Number(/(-?\d+)\s*$/.exec(line.textContent)[1]);

  // Claim for `a` the newest unclaimed lines whose points can only come from its event.
  function claim(a, names, atMost) {
    const lines = scoreLines();
    for (let i = lines.length - 1, left = atMost; i >= linesRead && left > 0; i--, left--) {
      const code = withPoints(linePoints(lines[i]), names);
      if (code < 0 || claims.has(i)) break;
      claims.set(i, [a, code]);
    }
  }

  // The game scores inside these events, and its own listeners were there first.
  function listen() {
    const bus = window.aircraftController._eventBus;
    for (const name of ['airspace-exit', 'approach', 'fullstop']) {
      if (!bus.has(name)) throw new Error(`the game has no event "${name}"`);
    }
    bus.on('airspace-exit', (a) => claim(a, EXIT, 1));
    bus.on('approach', (a) => claim(a, ON_APPROACH, 1));
    bus.on('fullstop', (a) => {
      claim(a, FULL_STOP, 3);
      stopped.push(a);
    });
  }

  // Restricted areas that `a` has entered since the last frame.
  function areasEntered(a, record) {
    let inside = 0;
    a.restricted.list.forEach((area, i) => {
      if (area.inside) inside |= 1 << i;
    });
    let entered = inside & ~record.inside;
    record.inside = inside;
    let count = 0;
    for (; entered; entered &= entered - 1) count++;
    return count;
  }

  // Score lines of this frame as rows [aircraft or -1, event code, frame], one per line.
  function readEvents(frame, entrants) {
    const rows = [];
    const lines = scoreLines();
    const crashes = window.aircraftController.conflicts.filter(
      (conflict) => conflict.collided && !collided.has(conflict),
    );
    crashes.forEach((conflict) => collided.add(conflict));
    for (; linesRead < lines.length; linesRead++) {
      let [a, code] = claims.get(linesRead) ?? [null, -1];
      if (code < 0) {
        const points = linePoints(lines[linesRead]);
        code = withPoints(points, UNCLAIMED);
        if (code < 0) code = withPoints(points, NAMES);
        if (code < 0) throw new Error(`unknown score line "${lines[linesRead].textContent}"`);
        if (NAMES[code] === 'ARRIVAL') a = stopped.shift();
        if (NAMES[code] === 'COLLISION') a = crashes.shift()?.aircraft[0];
        if (NAMES[code] === 'AIRSPACE_BUST') a = entrants.shift();
      }
      rows.push([a && records.has(a) ? b.number(a) : -1, code, frame]);
    }
    claims = new Map();
    stopped = [];
    return rows;
  }

  // ---------------------------------------------------------------- stepping

  const logLines = [];
  const keepLog = (mutations) => {
    for (const mutation of mutations) {
      for (const node of mutation.addedNodes) {
        logLines.push([node.textContent.trim(), node.classList.contains('warn')]);
      }
    }
  };
  const logObserver = new MutationObserver(keepLog);

  function typeCommand(text) {
    const input = document.getElementById('command');
    input.value = text;
    input.dispatchEvent(new KeyboardEvent('keydown', { code: 'Enter', bubbles: true }));
    for (const a of list()) {
      const record = records.get(a);
      record.route = routeId(a);
      record.leg = legIndex(a); // a leg skipped by the command is not a change within the frames
    }
  }

  function runFrames(frames) {
    const rows = new Map(); // aircraft -> its sub-steps [frames, fields]
    const events = [];
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
    }
    return { rows, events };
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

  function base64(blocks) {
    const floats = new Float32Array(blocks.reduce((total, block) => total + block.length, 0));
    let offset = 0;
    for (const block of blocks) {
      floats.set(block, offset);
      offset += block.length;
    }
    const bytes = new Uint8Array(floats.buffer);
    let text = '';
    for (let i = 0; i < bytes.length; i += 32768) {
      text += String.fromCharCode.apply(null, bytes.subarray(i, i + 32768));
    }
    return btoa(text);
  }

  function picture() {
    const size = config.picture_px;
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = size;
    const context = canvas.getContext('2d');
    const stage = document.getElementById('canvases');
    context.fillStyle = getComputedStyle(stage).backgroundColor;
    context.fillRect(0, 0, size, size);
    for (const layer of stage.querySelectorAll('canvas')) context.drawImage(layer, 0, 0);
    return canvas.toDataURL('image/png').split(',')[1];
  }

  const sentCallsigns = new Set();
  const sentRoutes = new Set();
  function unsent(all, sent) {
    const fresh = Object.entries(all).filter(([key]) => !sent.has(key));
    fresh.forEach(([key]) => sent.add(key));
    return Object.fromEntries(fresh);
  }

  // The state after a step as 'JSON header \n base64 of float32 blocks \n base64 of a PNG or nothing'.
  function answer(frames, rows, events, withPicture) {
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
    };
    const blocks = [aircraft, substepBlock(rows, frames), runwayTable, Float32Array.from(sinceSpawn)];
    return [JSON.stringify(header), base64(blocks), withPicture ? picture() : ''].join('\n');
  }

  function step(command, frames, withPicture) {
    if (command) typeCommand(command);
    if (withPicture && frames) {
      window.aircraftController._eventBus.trigger('mark-shallow-render');
    }
    const { rows, events } = runFrames(frames);
    return answer(frames, rows, events, withPicture);
  }

  // ---------------------------------------------------------------- start of an episode

  // What the page has become: 'loading', 'ready', or the reason why it never will be.
  function state() {
    if (!window.prop?.loaded || !frameRequests.size || requestsUnderWay) return 'loading';
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

  // Zoom out with the mouse wheel until the whole sector is in the picture.
  function fitView() {
    const wanted = config.picture_px / (2 * airport.ctr_radius);
    const canvas = document.querySelector('#canvases canvas');
    for (let zoom = Infinity, before = null; zoom > wanted && zoom !== before; ) {
      before = zoom;
      const wheel = new WheelEvent('mousewheel', { bubbles: true, deltaY: 100 });
      Object.defineProperty(wheel, 'wheelDelta', { value: -120 });
      canvas.dispatchEvent(wheel);
      zoom = Number(localStorage['zoom-level']);
    }
  }

  const points = (positions) => positions.map((p) => [p[0] / KM_PER_NM, p[1] / KM_PER_NM]);

  function describeRunway(runway) {
    const [[x, y]] = points([runway.relativePosition]);
    return {
      name: runway.name,
      x_nm: x,
      y_nm: y,
      heading_rad: b.wrap(runway.angle),
      elevation_ft: runway.elevation,
      glideslope_rad: runway.ils.glideslopeGradient,
      ils: Boolean(runway.ils.enabled),
      length_nm: runway.length / KM_PER_NM,
    };
  }

  function parallelMinimum(one, other) {
    if (one === other) return -1;
    const relation = airport.getRunwayRelationshipForRunwayNames(one.name, other.name);
    return relation.parallel ? relation.separationMinimum / KM_PER_NM : -1;
  }

  function describeStream(pattern) {
    const altitude = [pattern.altitude ?? 0].flat().map(Number);
    return {
      category: pattern.category,
      route: pattern.route,
      rate_per_h: Number(pattern.rate),
      method: pattern.method,
      speed_kt: Number(pattern.speed ?? 0),
      altitude_ft: [altitude[0], altitude[altitude.length - 1]],
      origin: pattern.origin,
      destination: pattern.destination,
      airlines: pattern.airlines,
      entrail_nm: pattern.entrail ?? null,
      offset_min: pattern.offset ?? null,
      period_min: pattern.period ?? null,
      variation_per_h: pattern.variation ?? null,
    };
  }

  function describeAirport(patterns) {
    return {
      icao: airport.icao,
      name: airport.name,
      version: window.GLOBAL?.VERSION ?? 'unknown',
      latitude_rad: (airport.positionModel.latitude * Math.PI) / 180,
      longitude_rad: (airport.positionModel.longitude * Math.PI) / 180,
      magnetic_north_rad: airport.magneticNorth,
      elevation_ft: airport.elevation,
      min_altitude_ft: airport.minAssignableAltitude,
      ceiling_ft: airport.maxAssignableAltitude,
      initial_altitude_ft: airport.initial_alt,
      radius_nm: airport.ctr_radius / KM_PER_NM,
      runways: runways().map(describeRunway),
      runway_parallel_minimum_nm: runways().map((one) =>
        runways().map((other) => parallelMinimum(one, other)),
      ),
      arrival_runway: airport.arrivalRunwayModel?.name ?? null,
      departure_runway: airport.departureRunwayModel?.name ?? null,
      airspace: airport.airspace.map((volume) => ({
        floor_ft: volume.floor,
        ceiling_ft: volume.ceiling,
        polygon_nm: points(volume.relativePoly),
      })),
      restricted: airport.restricted_areas.map((area) => ({
        height_ft: area.height,
        polygon_nm: points(area.poly),
      })),
      streams: patterns.map(describeStream),
      wind: { speed_kt: airport.wind.speed, from_rad: b.wrap(airport.wind.angle) },
    };
  }

  async function wrongAirport(loaded) {
    const all = await (await fetch('assets/airports/airportLoadList.json')).json();
    const known = all.find((entry) => entry.icao.toLowerCase() === config.airport);
    const enabled = all.filter((entry) => !entry.disabled).map((entry) => entry.icao.toLowerCase());
    const why = !known ? 'unknown' : known.disabled ? 'disabled' : 'listed without a usable file';
    return new Error(
      `airport "${config.airport}" is ${why} in this game, which loaded "${loaded}" instead; choose one of ${enabled.sort().join(' ')}`,
    );
  }

  // Start the episode; options: {traffic: {category: factor} or null, wind: [from_deg, kt] or null}.
  // Returns [airport tables as JSON, the first answer].
  async function begin(options) {
    const first = list().find((a) => a.fms.arrivalAirportModel || a.fms.departureAirportModel);
    if (!first) throw new Error(`airport "${config.airport}" starts without any traffic`);
    airport = first.fms.arrivalAirportModel ?? first.fms.departureAirportModel;
    if (airport.icao !== config.airport) throw await wrongAirport(airport.icao);
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
    if (config.picture_px) fitView();
    listen();
    for (let i = 0; i < WARM_UP_FRAMES; i++) runFrame();
    startMs = clockMs;
    linesRead = scoreLines().length;
    logObserver.observe(document.getElementById('log'), { childList: true });
    for (const a of list()) observe(a, -1);
    const missing = missingFields(list()[0]);
    if (missing.length) throw new Error(`this version of the game lacks ${missing.join(', ')}`);
    return [JSON.stringify(describeAirport(patterns)), step(null, 0, Boolean(config.picture_px))];
  }

  window.openscopeBridge = { state, begin, step };
}
