// Shortcuts that save time and change no state: positions and callsigns are computed once per change, and
// the scope, the clock and the strips are not drawn. `launch.check_game replay` plays whole hours with and
// without this file (config.plain) and compares every bit of the state.

let app = null; // the game's root object, which cannot be reached from `window`
let drawScope = null; // draws the scope when a picture is taken; the game's own drawing is off

if (!config.plain) {
  const nativeBind = Function.prototype.bind;
  Function.prototype.bind = function (self, ...args) {
    if (self !== null && typeof self === 'object' && Object.hasOwn(self, '_appController')) {
      app = self;
      Function.prototype.bind = nativeBind;
    }
    return Reflect.apply(nativeBind, this, [self, ...args]);
  };
}

// Replace a getter of the game by `keep(getter)`, which returns the last value as long as it is right.
function replaceGetter(object, name, keep) {
  let owner = object;
  while (!Object.hasOwn(owner, name)) owner = Object.getPrototypeOf(owner);
  const { get } = Object.getOwnPropertyDescriptor(owner, name);
  Object.defineProperty(owner, name, { configurable: true, get: keep(get) });
}

// The game spends most of a frame on the positions of aircraft that have not moved since the last question.
function keepPosition(original) {
  const KEPT = Symbol('position');
  return function () {
    let kept = this[KEPT];
    if (
      kept === undefined || kept.latitude !== this.latitude || kept.longitude !== this.longitude ||
      kept.reference !== this._referencePosition || kept.north !== this._magneticNorth
    ) {
      kept = this[KEPT] = {
        latitude: this.latitude,
        longitude: this.longitude,
        reference: this._referencePosition,
        north: this._magneticNorth,
        // Frozen, so that code which tried to change it would fail.
        position: Object.freeze([...original.call(this)]),
      };
    }
    return kept.position;
  };
}

function keepCallsign(original) {
  const KEPT = Symbol('callsign');
  return function () {
    let kept = this[KEPT];
    if (kept === undefined || kept.airline !== this.airlineId || kept.flight !== this.flightNumber) {
      kept = this[KEPT] = {
        airline: this.airlineId,
        flight: this.flightNumber,
        callsign: original.call(this),
      };
    }
    return kept.callsign;
  };
}

// The game counts in every frame, for each pair, how often the pair is in its list of conflicts.
function countPairsFaster() {
  const controller = window.aircraftController;
  const add = controller.addConflict;
  controller.addConflict = function (...pair) {
    add.apply(this, pair);
    const [conflict] = this.conflicts;
    if (!conflict) return;
    delete this.addConflict; // the class is known now
    Object.getPrototypeOf(conflict)._findInstancesOfThisConflictInAircraftController = function () {
      const [one, other] = this.aircraft;
      return controller.conflicts.filter(
        ({ aircraft: [a, b] }) => (a === one || b === one) && (a === other || b === other),
      );
    };
  };
}

// A strip draws a random number when it is made, so it is made when the game would make it. Its text is
// never updated.
function keepStripsIdle() {
  const strips = window.aircraftController._stripViewController;
  strips.update = (aircraft) => {
    for (const a of aircraft) {
      if (a.isControllable && !strips.hasStripViewModel(a)) strips.createStripView(a);
    }
  };
}

function idle() {
  const [a] = list();
  const { canvasController, airportInfoController } = app._appController;
  replaceGetter(a.positionModel, 'relativePosition', keepPosition);
  replaceGetter(a, 'callsign', keepCallsign);
  countPairsFaster();
  keepStripsIdle();
  airportInfoController.updateClock = () => {};
  const update = canvasController.canvasUpdatePost;
  canvasController.canvasUpdatePost = () => {};
  drawScope = () => {
    const trail = canvasController.theme.RADAR_TARGET.HISTORY_LENGTH;
    for (const aircraft of list()) {
      aircraft.relativePositionHistory = aircraft.relativePositionHistory.slice(-trail);
    }
    window.aircraftController._eventBus.trigger('mark-shallow-render');
    update.call(canvasController);
  };
  document.documentElement.style.display = 'none'; // no layout, no painting; canvases don't mind
}
