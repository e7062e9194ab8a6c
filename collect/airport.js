// The airport's tables, fixed during an episode: runways, airspace, streams of traffic.

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
