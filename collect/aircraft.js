// What is remembered of each aircraft, the helpers named in the schema of wm/sector/traffic.py, and the
// tables written with them.

const KM_PER_NM = 1.852;
const TAU = 2 * Math.PI;

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
