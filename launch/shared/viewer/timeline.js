// The timeline of an episode: commands, events, losses, points so far, the model's doubts. A click goes there.

const LANES = { loss: [2, 12], bad: [15, 24], good: [15, 24], command: [27, 34] };
const POINTS = [38, 72];  // pixels from the top, as in LANES
const NAMES = { losses: 7, events: 20, commands: 31 };
const GUTTER = { left: 66, right: 12 };

function timelineX(time, total, width) {
  return GUTTER.left + (time / total) * (width - GUTTER.left - GUTTER.right);
}

function timelineTime(x, total, width) {
  return Math.max(0, Math.min(total, ((x - GUTTER.left) / (width - GUTTER.left - GUTTER.right)) * total));
}

// What each term of the reward came to before a time, in words.
function termsAt(episode, time) {
  const before = (values) => values.filter(([step]) => (step + 1) * episode.step_s <= time);
  return Object.entries(episode.terms).map(([name, values]) =>
    `${name} ${signed(before(values).reduce((sum, [, points]) => sum + points, 0))}`).join(', ');
}

// Points after each decision, from the terms of the reward.
function pointsOf(episode) {
  const points = new Float64Array(episode.steps + 1);
  for (const term of Object.values(episode.terms)) for (const [step, value] of term) points[step + 1] += value;
  for (let i = 1; i < points.length; i++) points[i] += points[i - 1];
  return points;
}

function drawTimeline(context, episode, total, width, height) {
  context.fillStyle = '#0b1624';
  context.fillRect(0, 0, width, height);
  context.font = '10px ui-monospace, monospace';
  context.textBaseline = 'middle';
  drawMinutes(context, total, width, height);
  context.fillStyle = COLOURS.dim;
  for (const [name, y] of Object.entries(NAMES)) context.fillText(name, 6, y);
  drawDoubts(context, episode, total, width);
  drawPoints(context, episode, total, width);
  const order = ['command', 'good', 'bad', 'loss'];
  for (const kind of order) {
    const [top, bottom] = LANES[kind];
    context.fillStyle = COLOURS[kind];
    for (const item of episode.happened) {
      if (item.kind !== kind) continue;
      const wide = kind === 'command' ? 1 : 3;
      context.fillRect(timelineX(item.time, total, width) - wide / 2, top, wide, bottom - top);
    }
  }
}

function drawMinutes(context, total, width, height) {
  const every = total > 1800 ? 300 : total > 600 ? 120 : 60;
  for (let time = 0; time <= total; time += every) {
    const x = timelineX(time, total, width);
    context.fillStyle = COLOURS.ring;
    context.fillRect(x, 0, 1, height - 10);
    context.fillStyle = COLOURS.dim;
    context.fillText(clockText(time), Math.min(x - 14, width - 44), height - 5);
  }
}

function drawDoubts(context, episode, total, width) {
  if (!episode.doubts) return;
  context.fillStyle = COLOURS.doubt;
  context.globalAlpha = 0.35;
  const [top, bottom] = POINTS, each = (width / total) * episode.step_s + 1;
  episode.doubts.forEach((doubt, step) => {
    const high = Math.min(1, doubt) * (bottom - top);
    context.fillRect(timelineX(step * episode.step_s, total, width), bottom - high, each, high);
  });
  context.globalAlpha = 1;
}

function drawPoints(context, episode, total, width) {
  if (!Object.keys(episode.terms).length) return;
  const points = pointsOf(episode), [top, bottom] = POINTS;
  const low = Math.min(0, ...points), high = Math.max(10, ...points);
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  context.strokeStyle = COLOURS.map;
  context.lineWidth = 1;
  path(context, [[GUTTER.left, y(0)], [width - GUTTER.right, y(0)]]);
  context.stroke();
  context.fillStyle = COLOURS.dim;
  if (low < 0) context.fillText(`${Math.round(low)}`, 6, bottom);
  context.fillText(`points ${Math.round(high)}`, 6, top + 5);
  context.strokeStyle = COLOURS.text;
  context.lineWidth = 1.3;
  path(context, Array.from(points, (value, i) => [timelineX(i * episode.step_s, total, width), y(value)]));
  context.stroke();
}

// What was said or happened nearest to a place on the timeline, within a few pixels; else undefined.
function itemAt(episode, x, y, total, width) {
  let best, nearest = 5;
  for (const item of episode.happened) {
    const [top, bottom] = LANES[item.kind];
    const away = Math.abs(timelineX(item.time, total, width) - x);
    if (y >= top - 2 && y <= bottom + 2 && away < nearest) [best, nearest] = [item, away];
  }
  return best;
}

let begin = 0;  // what the clock shows at time 0

function clockText(time) {
  const whole = Math.floor(time + begin);
  const two = (number) => String(number).padStart(2, '0');
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`
    : `${two(Math.floor(whole / 60))}:${two(whole % 60)}`;
}
