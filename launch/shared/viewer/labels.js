// Data blocks: callsign, altitude with what is assigned, speed. Each looks for a place beside its aircraft.

const SPOTS = [[1, -1], [1, 1], [-1, -1], [-1, 1], [0, -1.6], [0, 1.6], [1.9, -0.2], [-1.9, -0.2]];
const FAR = [[2, -2.2], [2, 2.2], [-2, -2.2], [-2, 2.2]];

function hundreds(feet) {
  return String(Math.round(feet / 100)).padStart(3, '0');
}

function linesOf(state, item) {
  const arrow = state.climb > 60 ? '↑' : state.climb < -60 ? '↓' : ' ';
  const far = state.assigned > 0 && Math.abs(state.assigned - state.altitude) > 150 && !state.cleared;
  const target = state.cleared ? 'ILS' : far ? hundreds(state.assigned) : '';
  const second = `${hundreds(state.altitude)}${arrow}${target} ${Math.round(state.speed)}`.replace('  ', ' ');
  const said = item ? [item.text.slice(item.text.indexOf(' ') + 1)] : [];
  return [state.flight.callsign, second, ...said];
}

function overlap([x, y, w, h], [a, b, c, d]) {
  return Math.max(0, Math.min(x + w, a + c) - Math.max(x, a)) * Math.max(0, Math.min(y + h, b + d) - Math.max(y, b));
}

function boxAt(state, [dx, dy], width, height) {
  const x = state.px + dx * 14 + (dx < 0 ? -width : dx > 0 ? 0 : -width / 2);
  return [x, state.py + dy * 16 - height / 2, width, height];
}

// The place that covers least; one that was good enough a moment ago is kept, so that labels do not jump.
function placeLabel(scope, state, width, height, taken) {
  const kept = scope.spots.get(state.flight.id);
  const cost = (spot, i) => {
    const box = boxAt(state, spot, width, height);
    const outside = width * height - overlap(box, [0, 0, scope.width, scope.height]);
    return taken.reduce((sum, other) => sum + overlap(box, other), outside) + 4 * i;
  };
  const spots = [...SPOTS, ...FAR];
  if (kept !== undefined && cost(spots[kept], 0) < 25) return kept;
  const costs = spots.map(cost);
  return costs.indexOf(Math.min(...costs));
}

function drawLabels(context, scope, states, shown) {
  context.font = FONT;
  context.textBaseline = 'middle';
  const rank = (state) => (state.flight.callsign === shown.picked ? 3 : 0)
    + (shown.inLoss.has(state.flight.id) ? 2 : 0) + (state.controllable ? 1 : 0);
  const named = states.filter((state) => labelled(state, scope, shown));
  named.sort((a, b) => rank(b) - rank(a) || a.flight.id - b.flight.id);
  const taken = states.filter((state) => !state.ground).map((state) => [state.px - 4, state.py - 4, 8, 8]);
  for (const state of named) drawLabel(context, scope, state, taken, shown);
}

function labelled(state, scope, shown) {
  const inside = state.px > -20 && state.py > -20 && state.px < scope.width + 20 && state.py < scope.height + 20;
  return inside && (!state.ground || state.flight.callsign === shown.picked);
}

function drawLabel(context, scope, state, taken, shown) {
  const item = shown.fresh.get(state.flight.id), lines = linesOf(state, item);
  const width = 6.7 * Math.max(...lines.map((line) => line.length)), height = LINE_PX * lines.length;
  const spot = placeLabel(scope, state, width, height, taken);
  scope.spots.set(state.flight.id, spot);
  const box = boxAt(state, [...SPOTS, ...FAR][spot], width, height);
  taken.push(box);
  const colour = shown.inLoss.has(state.flight.id) ? COLOURS.loss : colourOf(state);
  drawLeader(context, state, box, colour);
  context.fillStyle = 'rgba(8, 17, 28, 0.7)';
  context.fillRect(...box);
  if (item) drawFlash(context, box, shown.time - item.time);
  lines.forEach((line, i) => {
    context.fillStyle = i === 2 ? COLOURS.command : state.flight.callsign === shown.picked ? '#ffffff' : colour;
    context.fillText(line, box[0], box[1] + LINE_PX * (i + 0.5));
  });
}

function drawLeader(context, state, [x, y, width, height], colour) {
  const nearX = Math.max(x - 2, Math.min(state.px, x + width + 2));
  const nearY = Math.max(y, Math.min(state.py, y + height));
  context.globalAlpha = 0.55;
  context.strokeStyle = colour;
  context.lineWidth = 1;
  path(context, [[state.px, state.py], [nearX, nearY]]);
  context.stroke();
  context.globalAlpha = 1;
}

function drawFlash(context, [x, y, width, height], age) {
  context.globalAlpha = Math.max(0.25, 1 - age / FLASH_S);
  context.strokeStyle = COLOURS.command;
  context.lineWidth = 1;
  context.strokeRect(x - 3, y - 2, width + 6, height + 3);
  context.globalAlpha = 1;
}
