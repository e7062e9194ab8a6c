// The page's clock, timers and randomness, taken over before the game's bundle loads.
//
// The files of this folder are joined in one scope with `config` (see game.py, bridge_script):
// clock, idle, aircraft, events, airport, picture, shape, bridge.

const WARM_UP_FRAMES = 2; // the game's clock has its first time step in the third frame

const native = {
  Date,
  setTimeout: window.setTimeout.bind(window),
  setInterval: window.setInterval.bind(window),
  clearTimeout: window.clearTimeout.bind(window),
};
let clockMs = 0;
let startMs = 0; // of the episode, after the warm-up frames
let stepping = false;
// To the microsecond, so that frames such as 1/60 s add up to whole decisions.
const now = () => Math.round((clockMs - startMs) * 1000) / 1e6;

window.Date = new Proxy(native.Date, {
  construct: (target, args) =>
    args.length ? new target(...args) : new target(config.epoch_ms + clockMs),
  apply: (target) => new target(config.epoch_ms + clockMs).toString(),
  get: (target, key) => (key === 'now' ? () => config.epoch_ms + clockMs : target[key]),
});
performance.now = () => clockMs;

// The game's own clock cannot be reached from `window`. It is the object that first sets this property.
const CLOCK_TOLERANCE_S = 0.01; // the game's clock rounds to milliseconds
let gameClock = null;
let gameStart = 0; // what it shows when the episode begins
Object.defineProperty(Object.prototype, '_accumulatedDeltaTime', {
  configurable: true,
  set(value) {
    delete Object.prototype._accumulatedDeltaTime;
    this._accumulatedDeltaTime = value;
    gameClock = this;
  },
});

// The game's clock and ours differ after a pause or a timewarp, whoever has set it.
function compareClocks() {
  const shown = gameClock._accumulatedDeltaTime - gameStart;
  if (Math.abs(shown - now()) <= CLOCK_TOLERANCE_S) return;
  throw new Error(
    `the game's own clock shows ${shown.toFixed(2)} s where ${now()} s have passed, so it was paused, sped up or begun again: reset the game`,
  );
}

let frameRequests = new Map();
let lastId = 0;
window.requestAnimationFrame = (callback) => {
  frameRequests.set(++lastId, callback);
  return lastId;
};
window.cancelAnimationFrame = (id) => frameRequests.delete(id);

// While the page loads, timers are the browser's own, because jQuery's deferreds wait for them. From the
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

// Calls the game's code and marks its errors, to tell them from errors of this bridge.
function own(callback, ...args) {
  try {
    callback(...args);
  } catch (error) {
    throw Object.assign(new Error(error.message), { name: 'GameFault' });
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
    own(timer.callback, ...timer.args);
  }
  clockMs = targetMs;
}

function runFrame() {
  fireTimersUntil(clockMs + 1000 * config.frame_s);
  const callbacks = frameRequests;
  frameRequests = new Map();
  for (const callback of callbacks.values()) own(callback, clockMs);
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
