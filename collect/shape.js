// The parts of the game that the bridge uses. A version of the game that lacks one is refused by its name.
// The fields of the tables are in the schema (wm/sector/traffic.py).

const HELD_OF_AIRCRAFT = [
  'callsign', 'category', 'flightPhase', 'isControllable', 'relativePosition', 'restricted.list',
  'fms._routeModel.getFullRouteString', 'fms._routeModel._legCollection.0._waypointCollection',
  'fms._routeModel._legCollection.0._previousWaypointCollection',
  'fms._routeModel._previousLegCollection', 'model.category', 'mcp',
];
const HELD_OF_AIRPORT = [
  'icao', 'ctr_radius', 'airspace', 'restricted_areas', 'wind.speed', 'wind.angle', 'elevation',
  'minAssignableAltitude', 'maxAssignableAltitude', '_runwayCollection.runways.0.name',
  '_runwayCollection.runways.0.angle', '_runwayCollection.runways.0.relativePosition',
  '_runwayCollection.runways.0.ils', 'getRunwayRelationshipForRunwayNames',
];
const HELD_OF_PAGE = [
  'aircraftController._eventBus.on', 'aircraftController.conflicts', 'aircraftController.addConflict',
];
const HELD_TO_IDLE = [
  'aircraft.airlineId', 'aircraft.flightNumber', 'aircraft.relativePositionHistory',
  'aircraft.positionModel.latitude', 'aircraft.positionModel.longitude',
  'aircraft.positionModel._referencePosition', 'aircraft.positionModel._magneticNorth',
  'controller._stripViewController.update', 'controller._stripViewController.createStripView',
  'controller._stripViewController.hasStripViewModel',
  'app.canvasController.canvasUpdatePost', 'app.canvasController.theme.RADAR_TARGET.HISTORY_LENGTH',
  'app.airportInfoController.updateClock',
];
const HELD_OF_CLOCK = ['clock._accumulatedDeltaTime'];
const HELD_OF_DOCUMENT = ['command', 'score', 'score-log', 'log', 'canvases'];

function lacks(object, path) {
  try {
    return path.split('.').reduce((value, key) => value?.[key], object) === undefined;
  } catch {
    return true; // a getter that misses something itself
  }
}

// Names of what the page lacks, of which `a` is one aircraft.
function missingParts(a) {
  const held = { aircraft: a, controller: window.aircraftController, app: app?._appController, clock: gameClock };
  return [
    ...HELD_OF_DOCUMENT.filter((id) => !document.getElementById(id)).map((id) => `#${id}`),
    ...HELD_OF_PAGE.filter((path) => lacks(window, path)),
    ...HELD_OF_AIRCRAFT.filter((path) => lacks(a, path)).map((path) => `aircraft.${path}`),
    ...HELD_OF_AIRPORT.filter((path) => lacks(airport, path)).map((path) => `airport.${path}`),
    ...HELD_OF_CLOCK.filter((path) => lacks(held, path)),
    ...(config.plain ? [] : HELD_TO_IDLE.filter((path) => lacks(held, path))),
  ];
}

function refuse(missing) {
  if (missing.length) throw new Error(`this version of the game lacks ${missing.join(', ')}`);
}
