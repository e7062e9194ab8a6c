// An episode as launch.shared.viewer.pack wrote it: the numbers unpacked, and what is where at a time.

async function unpackEpisode(packed) {
  const bytes = Uint8Array.from(atob(packed.block), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  const numbers = new Uint16Array(await new Response(stream).arrayBuffer());
  const columns = {};
  Object.entries(packed.columns).forEach(([name, [low, step]], i) => {
    const differences = numbers.subarray(i * packed.rows, (i + 1) * packed.rows);
    columns[name] = summed(differences).map((number) => low + step * number);
  });
  let start = 0;
  const flights = packed.flights.map((flight) => {
    start += flight.count;
    return { ...flight, start: start - flight.count };
  });
  const names = new Map(flights.map((flight) => [flight.id, flight.callsign]));
  const episode = { ...packed, columns, flights, names, duration: packed.steps * packed.step_s };
  episode.happened = itemsOf(episode);
  episode.doubts = doubtsOf(episode);
  return episode;
}

function summed(differences) {
  const values = new Float64Array(differences.length);
  let sum = 0;
  differences.forEach((difference, i) => {
    sum = (sum + difference) & 0xffff;
    values[i] = sum;
  });
  return values;
}

// Commands, events and losses of separation as one list in the order of time.
function itemsOf(episode) {
  const name = (id) => episode.names.get(id) ?? '';
  const at = (step, kind, text, ids, points = 0) =>
    ({ time: step * episode.step_s, kind, text, ids: ids.filter((id) => id >= 0), points });
  const commands = episode.commands.map(([step, id, text]) =>
    at(step, 'command', text.startsWith(name(id)) ? text : `${name(id)} ${text}`, [id]));
  const events = episode.events.map(([step, id, event, points]) => {
    const words = event.toLowerCase().replaceAll('_', ' ');
    return at(step, points < 0 ? 'bad' : 'good', `${name(id)} ${words} ${signed(points)}`.trim(), [id], points);
  });
  const losses = episode.conflicts.filter((conflict) => !conflict[4]).map(([first, , one, other, , nearest]) =>
    at(first, 'loss', `${name(one)} and ${name(other)} lose separation, ${nearest} nm`, [one, other], -200));
  return [...commands, ...events, ...losses].sort((a, b) => a.time - b.time);
}

function signed(points) {
  return points > 0 ? `+${points}` : `${points}`;
}

// The largest disagreement of the model about any aircraft, by decision; null without one.
function doubtsOf(episode) {
  const column = episode.columns.disagreement;
  if (!column) return null;
  const largest = new Float64Array(episode.steps + 1);
  for (const flight of episode.flights) {
    for (let i = 0; i < flight.count; i++) {
      const step = flight.first + i;
      largest[step] = Math.max(largest[step], column[flight.start + i]);
    }
  }
  return largest;
}

// An aircraft at a time (s), between two decisions on a straight line; null where it is not there.
function stateOf(episode, flight, time) {
  const place = time / episode.step_s - flight.first;
  if (place < 0 || place >= flight.count) return null;
  const row = flight.start + Math.floor(place);
  const next = Math.min(row + 1, flight.start + flight.count - 1);
  const share = place - Math.floor(place);
  const { columns } = episode;
  const between = (name) => columns[name][row] + share * (columns[name][next] - columns[name][row]);
  const turn = ((columns.heading_deg[next] - columns.heading_deg[row] + 540) % 360) - 180;
  const flags = columns.flags[row];
  const minute = Math.max(flight.start, row - 3);
  return {
    flight,
    row,
    x: between('x_nm'),
    y: between('y_nm'),
    altitude: between('altitude_ft'),
    speed: between('ground_speed_kt'),
    airspeed: between('speed_kt'),
    heading: (columns.heading_deg[row] + share * turn + 360) % 360,
    climb: columns.altitude_ft[next] - columns.altitude_ft[minute],
    phase: episode.phases[columns.phase[row]] ?? '',
    ground: columns.phase[row] < 3,
    controllable: (flags & 1) > 0,
    cleared: (flags & 2) > 0,
    hit: (flags & 4) > 0,
    assigned: columns.assigned_altitude_ft[row],
    assignedHeading: columns.assigned_heading_deg[row],
    assignedSpeed: columns.assigned_speed_kt[row],
    runway: episode.map.runways[columns.runway[row]] ?? null,
    route: episode.map.routes[columns.route[row]] ?? null,
    leg: Math.max(0, columns.leg[row]),
    doubt: columns.disagreement ? between('disagreement') : null,
  };
}

function statesAt(episode, time) {
  const shown = [];
  for (const flight of episode.flights) {
    const state = stateOf(episode, flight, time);
    if (state) shown.push(state);
  }
  return shown;
}

// Pairs that are too close at a time: [one, other, exempt] by aircraft id.
function closeAt(episode, time) {
  const step = Math.floor(time / episode.step_s);
  return episode.conflicts.filter(([first, last]) => first <= step && step <= last + 1).map((c) => c.slice(2, 5));
}
