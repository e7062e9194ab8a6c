// The radar scope: the sector's map, aircraft with trails, vectors and data blocks, what is too close.

const COLOURS = {
  map: '#24384f', ring: '#15263a', airspace: '#3d5f86', restricted: '#6b3a3a', fix: '#4d6b8c', runway: '#d5dde8',
  arrival: '#7cc7ff', departure: '#8fe3a1', overflight: '#c9b8ff', dim: '#5d7186', command: '#ffd75e',
  loss: '#ff4d4d', exempt: '#c98a2b', good: '#6fdc8c', bad: '#ff8a4d', doubt: '#c77dff', text: '#c8d3e0',
};
const UNSURE = 0.3;  // of what the model still knows; less shows no halo
const TRAIL_STEPS = 12, FLASH_S = 15, VECTOR_S = 60, RING_NM = 1.5, MARGIN_NM = 3;
const LINE_PX = 12, FONT = '11px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';

function fitView(map) {
  const xs = map.airspace.flat().map((p) => p[0]), ys = map.airspace.flat().map((p) => p[1]);
  const [left, right, bottom, top] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  return { x: (left + right) / 2, y: (bottom + top) / 2, wide: right - left + 2 * MARGIN_NM, high: top - bottom + 2 * MARGIN_NM, zoom: 1 };
}

// Where a point of the map (nm) is on a canvas of so many pixels.
function projection(view, width, height) {
  const scale = Math.min(width / view.wide, height / view.high) * view.zoom;
  return {
    scale,
    to: (x, y) => [width / 2 + (x - view.x) * scale, height / 2 - (y - view.y) * scale],
    from: (px, py) => [view.x + (px - width / 2) / scale, view.y - (py - height / 2) / scale],
  };
}

function path(context, points, close = false) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (close) context.closePath();
}

function strokeCircle(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.stroke();
}

function drawMap(context, map, project, width, height) {
  context.fillStyle = '#08111c';
  context.fillRect(0, 0, width, height);
  context.font = '10px ui-monospace, monospace';
  drawRangeRings(context, project, width, height);
  const outline = (polygon, colour) => {
    context.strokeStyle = colour;
    path(context, polygon.map(([x, y]) => project.to(x, y)), true);
    context.stroke();
  };
  context.lineWidth = 1;
  for (const polygon of map.restricted) outline(polygon, COLOURS.restricted);
  drawRoutes(context, map, project);
  context.lineWidth = 1.3;
  for (const polygon of map.airspace) outline(polygon, COLOURS.airspace);
  for (const runway of map.runways) drawRunway(context, runway, project);
}

function drawRangeRings(context, project, width, height) {
  context.strokeStyle = COLOURS.ring;
  context.fillStyle = COLOURS.map;
  const far = Math.hypot(width, height) / project.scale;
  for (let nm = 10; nm <= Math.min(far, 80); nm += 10) {
    strokeCircle(context, project.to(0, 0), nm * project.scale);
    context.fillText(`${nm}`, ...project.to(0.3, nm + 0.3));
  }
}

function drawRoutes(context, map, project) {
  const named = new Map();
  context.strokeStyle = '#182a40';
  context.lineWidth = 1;
  for (const fixes of Object.values(map.routes)) {
    const placed = fixes.filter((fix) => fix.length > 1);
    path(context, placed.map(([, x, y]) => project.to(x, y)));
    context.stroke();
    for (const [name, x, y] of placed) named.set(`${x},${y}`, name);
  }
  context.fillStyle = COLOURS.fix;
  const taken = [];
  for (const [place, name] of named) {
    const [px, py] = project.to(...place.split(',').map(Number));
    path(context, [[px, py - 3], [px + 3, py + 2], [px - 3, py + 2]], true);
    context.fill();
    const box = [px + 5, py - 4, 6 * name.length, 9];
    if (taken.some((other) => overlap(box, other))) continue;
    taken.push(box);
    context.fillText(name, px + 5, py + 4);
  }
}

function drawRunway(context, runway, project) {
  const heading = (runway.heading_deg * Math.PI) / 180;
  const [x, y] = runway.xy, [east, north] = [Math.sin(heading), Math.cos(heading)];
  context.strokeStyle = COLOURS.runway;
  context.lineWidth = 2.5;
  path(context, [project.to(x, y), project.to(x + east * runway.length_nm, y + north * runway.length_nm)]);
  context.stroke();
  context.strokeStyle = COLOURS.map;
  context.lineWidth = 1;
  context.setLineDash([4, 4]);
  path(context, [project.to(x, y), project.to(x - 12 * east, y - 12 * north)]);
  context.stroke();
  context.setLineDash([]);
  if (project.scale < 14) return;
  context.fillStyle = COLOURS.text;
  const [px, py] = project.to(x - 0.5 * east, y - 0.5 * north);
  context.fillText(runway.name, px - 6, py + 4);
}

function colourOf(state) {
  return state.controllable ? COLOURS[state.flight.category] : COLOURS.dim;
}

// Commands of the last seconds, by aircraft.
function flashing(episode, time) {
  const fresh = new Map();
  for (const item of episode.happened) {
    if (item.time > time) break;
    if (item.kind === 'command' && time - item.time < FLASH_S) fresh.set(item.ids[0], item);
  }
  return fresh;
}

function drawTraffic(context, scope, time, picked, options) {
  const { episode, project } = scope;
  const states = statesAt(episode, time), close = closeAt(episode, time), fresh = flashing(episode, time);
  const inLoss = new Set(close.filter(([, , exempt]) => !exempt).flatMap(([one, other]) => [one, other]));
  const chosen = states.find((state) => state.flight.callsign === picked);
  if (chosen) drawOwnRoute(context, chosen, project);
  for (const state of states) {
    [state.px, state.py] = project.to(state.x, state.y);
    if (state.doubt > UNSURE) drawHalo(context, state);
    if (options.rings && !state.ground && state.controllable) drawRing(context, state, project, COLOURS.map);
  }
  drawClose(context, states, close, project);
  for (const state of states) drawAircraft(context, episode, state, project, inLoss);
  if (chosen) {
    context.strokeStyle = '#ffffff';
    strokeCircle(context, [chosen.px, chosen.py], 9);
  }
  drawLabels(context, scope, states, { fresh, inLoss, picked, time });
  scope.states = states;
}

function drawRing(context, state, project, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1;
  strokeCircle(context, [state.px, state.py], RING_NM * project.scale);
}

function drawHalo(context, state) {
  const doubt = Math.min(1, (state.doubt - UNSURE) / (1 - UNSURE)), radius = 12 + 24 * doubt;
  const glow = context.createRadialGradient(state.px, state.py, 2, state.px, state.py, radius);
  const strength = 0.3 + 0.7 * doubt;
  glow.addColorStop(0, `rgba(199, 125, 255, ${strength})`);
  glow.addColorStop(1, 'rgba(199, 125, 255, 0)');
  context.fillStyle = glow;
  context.fillRect(state.px - radius, state.py - radius, 2 * radius, 2 * radius);
}

// A ring of 1.5 nm around both of a pair: rings that overlap are closer than 3 nm.
function drawClose(context, states, close, project) {
  const byId = new Map(states.map((state) => [state.flight.id, state]));
  for (const [one, other, exempt] of close) {
    const [a, b] = [byId.get(one), byId.get(other)];
    if (!a || !b) continue;
    const colour = exempt ? COLOURS.exempt : COLOURS.loss;
    context.lineWidth = exempt ? 1 : 2;
    context.strokeStyle = colour;
    context.setLineDash(exempt ? [2, 3] : []);
    path(context, [[a.px, a.py], [b.px, b.py]]);
    context.stroke();
    context.setLineDash([]);
    if (!exempt) [a, b].forEach((state) => drawRing(context, state, project, colour));
  }
}

function drawOwnRoute(context, state, project) {
  if (!state.route) return;
  const ahead = state.route.slice(state.leg).filter((fix) => fix.length > 1);
  context.strokeStyle = '#4f7fb5';
  context.lineWidth = 1.2;
  context.setLineDash([6, 4]);
  path(context, [project.to(state.x, state.y), ...ahead.map(([, x, y]) => project.to(x, y))]);
  context.stroke();
  context.setLineDash([]);
}

function drawAircraft(context, episode, state, project, inLoss) {
  const { x_nm: xs, y_nm: ys } = episode.columns, { flight, row, px, py } = state;
  const colour = inLoss.has(flight.id) ? COLOURS.loss : colourOf(state);
  context.fillStyle = colour;
  if (state.ground) {
    context.fillRect(px - 1, py - 1, 2, 2);
    return;
  }
  for (let back = 1; back <= TRAIL_STEPS && row - back >= flight.start; back++) {
    context.globalAlpha = 0.75 * (1 - back / (TRAIL_STEPS + 1));
    const [tx, ty] = project.to(xs[row - back + 1], ys[row - back + 1]);
    context.fillRect(tx - 1, ty - 1, 2, 2);
  }
  context.globalAlpha = 1;
  const heading = (state.heading * Math.PI) / 180, ahead = (state.speed * VECTOR_S) / 3600;
  context.strokeStyle = colour;
  context.lineWidth = 1;
  path(context, [[px, py], project.to(state.x + ahead * Math.sin(heading), state.y + ahead * Math.cos(heading))]);
  context.stroke();
  if (state.hit) context.strokeRect(px - 5, py - 5, 10, 10);
  context.fillRect(px - 3, py - 3, 6, 6);
}
