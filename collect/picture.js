// Pictures of the scope as the game draws it, in a square with the whole control area in it.
//
// config.picture_px: side, 0 for none. config.palette: up to 256 colours as 0xBBGGRR, or null for all
// the game has. With a palette an answer holds what changed since the picture before (see pictures.py).

const PAGE_MS = 3000; // the data blocks show altitude and speed for two thirds of it, then the other page
const OTHER_PAGE_MS = 2000;
const VIEW_MARGIN = 1.03;
const RUN_GAP = 8; // unchanged pixels within a run are cheaper than another run

let scope = null; // {canvas, context, pixels, indices}
const nearest = new Map(); // pixel -> index of the palette

if (config.zoom) localStorage['zoom-level'] = config.zoom;

function prepareScope() {
  const size = config.picture_px;
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = size;
  const options = { alpha: false, willReadFrequently: Boolean(config.palette) };
  const stage = document.getElementById('canvases');
  scope = {
    canvas,
    context: canvas.getContext('2d', options),
    layers: [...stage.querySelectorAll('canvas')],
    background: getComputedStyle(stage).backgroundColor,
    pixels: new Uint32Array(size * size),
  };
}

// The pixels per km that fit the control area: all corners of the airspace, or the circle without one.
function fittingZoom() {
  const corners = airport.airspace.flatMap((volume) => volume.relativePoly).flat().map(Math.abs);
  const half = corners.length ? Math.max(...corners) : airport.ctr_radius;
  return config.picture_px / (2 * VIEW_MARGIN * half);
}

function nearestColour(pixel) {
  let best = 0;
  let least = Infinity;
  config.palette.forEach((colour, index) => {
    let distance = 0;
    for (const shift of [0, 8, 16]) {
      const step = ((pixel >>> shift) & 255) - ((colour >>> shift) & 255);
      distance += step * step;
    }
    if (distance < least) [best, least] = [index, distance];
  });
  nearest.set(pixel, best);
  return best;
}

// Runs of changed pixels as [how many, start, length, start, length, ...] and their colours' indices.
function changes() {
  const size = config.picture_px;
  const now = new Uint32Array(scope.context.getImageData(0, 0, size, size).data.buffer);
  const before = scope.pixels;
  const runs = [0];
  const colours = [];
  for (let i = 0; i < now.length; i++) {
    if (now[i] === before[i]) continue;
    const start = i;
    let end = i + 1;
    for (let j = end; j < now.length && j - end < RUN_GAP; j++) {
      if (now[j] !== before[j]) end = j + 1;
    }
    for (; i < end; i++) {
      const pixel = now[i] & 0xffffff;
      colours.push(nearest.get(pixel) ?? nearestColour(pixel));
    }
    runs.push(start, end - start);
  }
  runs[0] = (runs.length - 1) / 2;
  scope.pixels = now;
  return binary([new Uint8Array(Uint32Array.from(runs).buffer), Uint8Array.from(colours)]);
}

// The scope at this moment: base64 of a PNG, or with a palette of the changes.
function picture() {
  drawScope();
  const { canvas, context } = scope;
  context.fillStyle = scope.background;
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const layer of scope.layers) context.drawImage(layer, 0, 0);
  return config.palette ? changes() : canvas.toDataURL('image/png').split(',')[1];
}

const shownPage = () => Number((config.epoch_ms + clockMs) % PAGE_MS >= OTHER_PAGE_MS);
