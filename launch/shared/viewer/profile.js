// The vertical profile of the picked aircraft: altitude against the distance to its threshold.

const PROFILE = { left: 44, right: 10, top: 16, bottom: 26 };
const FARTHEST_NM = 45;  // drawn

// [distance nm, altitude ft] of every decision of a flight, towards one runway's threshold.
function profileOf(episode, flight, runway) {
  const { x_nm: xs, y_nm: ys, altitude_ft: altitudes, phase } = episode.columns;
  const points = [];
  for (let row = flight.start; row < flight.start + flight.count; row++) {
    const nm = Math.hypot(xs[row] - runway.xy[0], ys[row] - runway.xy[1]);
    if (phase[row] >= 3 && nm <= FARTHEST_NM) points.push([nm, altitudes[row], row]);
  }
  return points;
}

function drawProfile(context, scopes, picked, time, width, height) {
  context.fillStyle = '#0b1624';
  context.fillRect(0, 0, width, height);
  context.font = '10px ui-monospace, monospace';
  context.textBaseline = 'middle';
  const shown = scopes.map(({ episode }) => profileIn(episode, picked, time)).filter(Boolean);
  if (!shown.length) {
    context.fillStyle = COLOURS.dim;
    context.fillText('pick an aircraft: its profile is drawn here', 14, height / 2);
    return;
  }
  const far = Math.max(10, ...shown.flatMap(({ points }) => points.map(([nm]) => nm)));
  const high = Math.max(3000, ...shown.flatMap(({ points }) => points.map(([, ft]) => ft))) * 1.05;
  const { left, right, top, bottom } = PROFILE;
  const to = (nm, ft) => [
    width - right - (nm / far) * (width - left - right),
    height - bottom - (ft / high) * (height - top - bottom),
  ];
  drawAxes(context, to, far, high, width, height);
  drawGlideslope(context, to, shown[0].runway, Math.min(far, 20), high);
  shown.forEach((one, i) => drawFlown(context, to, one, i));
}

function profileIn(episode, picked, time) {
  const flight = episode.flights.find((one) => one.callsign === picked);
  if (!flight) return null;
  const last = Math.min(time, (flight.first + flight.count) * episode.step_s - 0.001);
  const state = stateOf(episode, flight, Math.max(last, flight.first * episode.step_s));
  const runway = state.runway ?? episode.map.runways[0];
  const now = stateOf(episode, flight, time);
  return { runway, now, row: state.row, points: profileOf(episode, flight, runway) };
}

function drawAxes(context, to, far, high, width, height) {
  context.strokeStyle = COLOURS.ring;
  context.fillStyle = COLOURS.dim;
  context.lineWidth = 1;
  const step = far > 60 ? 20 : far > 25 ? 10 : 5, rise = high > 20000 ? 10000 : high > 8000 ? 4000 : 2000;
  for (let nm = 0; nm <= far; nm += step) {
    const [x] = to(nm, 0);
    path(context, [[x, PROFILE.top], [x, height - PROFILE.bottom]]);
    context.stroke();
    context.fillText(`${nm}`, x - 5, height - PROFILE.bottom + 9);
  }
  for (let ft = 0; ft <= high; ft += rise) {
    const [, y] = to(0, ft);
    path(context, [[PROFILE.left, y], [width - PROFILE.right, y]]);
    context.stroke();
    context.fillText(`${ft}`.padStart(5), 8, y);
  }
  context.fillText('ft', 8, 8);
  context.fillText('nm to the threshold', width - 130, height - 7);
}

function drawGlideslope(context, to, runway, far, high) {
  context.strokeStyle = COLOURS.good;
  context.setLineDash([5, 4]);
  const end = Math.min(far, (high - runway.elevation_ft) / runway.rise_ft_per_nm);
  path(context, [to(0, runway.elevation_ft), to(end, runway.elevation_ft + end * runway.rise_ft_per_nm)]);
  context.stroke();
  context.setLineDash([]);
  context.fillStyle = COLOURS.good;
  const [x, y] = to(end, runway.elevation_ft + end * runway.rise_ft_per_nm);
  context.fillText(`glideslope ${runway.name}`, Math.max(PROFILE.left, x - 34), Math.max(8, y - 8));
}

function drawFlown(context, to, { points, row, now }, i) {
  const colour = ['#ffffff', COLOURS.doubt][i] ?? '#ffffff';
  context.strokeStyle = colour;
  context.setLineDash(i ? [5, 4] : []);
  const line = (part, alpha, wide) => {
    context.globalAlpha = alpha;
    context.lineWidth = wide;
    path(context, part.map(([nm, ft]) => to(nm, ft)));
    context.stroke();
  };
  line(points, 0.3, 1);
  line(points.filter((point) => point[2] <= row), 1, 1.6);
  context.setLineDash([]);
  const here = points.find((point) => point[2] === row);
  if (!now || !here) return;
  context.fillStyle = colour;
  const [x, y] = to(here[0], now.altitude);
  context.fillRect(x - 3, y - 3, 6, 6);
  if (now.assigned <= 0 || now.cleared) return;
  const [, level] = to(0, now.assigned);
  context.setLineDash([2, 4]);
  path(context, [[Math.max(PROFILE.left, x - 30), level], [x + 30, level]]);
  context.stroke();
  context.setLineDash([]);
}
