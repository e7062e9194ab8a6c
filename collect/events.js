// Every line of the game's score log as one event, with the aircraft that caused it.

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
