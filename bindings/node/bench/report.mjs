// The table of what was measured: medians, in brackets least and most; what it must be, and whether it is.

/** Of all runs of a contender: a figure's median, least and most. */
function spread(runs, figure) {
  const sorted = runs.map(figure).toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  const median = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  return { median, least: sorted[0], most: sorted.at(-1) };
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

/** The mean over frames of the least that each took in any run: what it takes when nothing disturbs it. */
function undisturbed(runs, key) {
  const least = runs[0][key].map((_, i) => Math.min(...runs.map((run) => run[key][i])));
  return mean(least);
}

/** A row: its two cells, and, where there is a limit, the value that must keep it. */
function row(name, peer, own, limit, keeps) {
  const value = typeof own === 'object' ? own.median : own;
  return { name, peer, evenkeel: own, limit, isMet: keeps && keeps(value) };
}

const below = (most) => (value) => value < most;

/** What was measured, a line of the table each. */
export function rows(results) {
  return [
    ...(results.frames ? frameRows(results.frames) : []),
    ...(results.quality ? qualityRows(results.quality) : []),
    ...(results.atOnce ? atOnceRows(results.atOnce) : []),
    ...(results.streams ? streamRows(results.streams) : []),
  ];
}

function frameRows({ peer, evenkeel, rust }) {
  const ms = (key) => (run) => mean(run[key]) / 1000;
  const most = (key) => (run) => Math.max(...run[key]) / 1000;
  const cpu = { peer: spread(peer, (run) => run.cpu_us), own: spread(evenkeel, (run) => run.cpu_us) };
  const call = undisturbed(evenkeel, 'call_us');
  return [
    row('a frame, mean, ms', spread(peer, ms('frame_us')), spread(evenkeel, ms('call_us')), '< 0.2', below(0.2)),
    row('a frame, max, ms', spread(peer, most('frame_us')), spread(evenkeel, most('call_us')), '< 15', below(15)),
    row('the call over the same in Rust, µs', null, call - undisturbed(rust, 'frame_us'), '< 3', below(3)),
    row('outside the Rust function, by its own clock, µs', null, spread(evenkeel, (run) => mean(run.call_us) - run.native_us)),
    row('CPU of the process, a frame, µs', cpu.peer, cpu.own),
    row('the same, of the peer\'s', 1, cpu.own.median / cpu.peer.median, '<= 0.6', (ratio) => ratio <= 0.6),
  ];
}

function qualityRows({ mean: { peer, package: own } }) {
  const least = peer.pesq - 0.05;
  return [
    row('PESQ, mean of the recordings', peer.pesq, own.pesq, `>= ${least.toFixed(3)}`, (pesq) => pesq >= least),
    row('bit rate of that, kb/s', peer.kbps, own.kbps, `<= ${peer.kbps.toFixed(2)}`, (kbps) => kbps <= peer.kbps),
  ];
}

function atOnceRows({ peer, evenkeel }) {
  const of = (key) => [spread(peer, (run) => run[key]), spread(evenkeel, (run) => run[key])];
  return [
    row('10 frames at once, ms', ...of('median_ms'), '< 20', below(20)),
    row('10 frames at once, max, ms', ...of('max_ms'), '< 20', below(20)),
  ];
}

function streamRows({ peer, evenkeel }) {
  const both = (figure) => [spread(peer, figure), spread(evenkeel, figure)];
  const own = (figure) => [null, spread(evenkeel, figure)];
  return [
    row('from due until sealed, p50, ms', ...both((run) => run.latency_ms.p50)),
    row('from due until sealed, p99, ms', ...both((run) => run.latency_ms.p99), '< 3', below(3)),
    row('from due until sealed, p99.9, ms', ...both((run) => run.latency_ms.p999), '< 6', below(6)),
    row('from due until sealed, max, ms', ...both((run) => run.latency_ms.max)),
    row('until the event loop had it, p99, ms', ...own((run) => run.delivered_ms.p99)),
    row('of that before it was written, p99, ms', ...both((run) => run.source_late_ms.p99)),
    row('of that in the engine, p99, ms', ...own((run) => run.lane_ms.p99)),
    row('of that in the engine, p99.9, ms', ...own((run) => run.lane_ms.p999)),
    row('over 50 ms late or lost, %', ...both((run) => 100 * run.late_50ms_share), '0', (share) => share === 0),
    row('event-loop delay, p99, ms', ...own((run) => run.loop_delay_ms.p99), '< 2', below(2)),
    row('changes of rung', ...own((run) => run.rung_changes)),
    row('cores', ...both((run) => run.cores), '< 0.9', below(0.9)),
    row('memory, MB', ...both((run) => run.rss_mb), '< 120', below(120)),
  ];
}

function figure(value) {
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return value.toFixed(size < 1 ? 3 : size < 10 ? 2 : size < 100 ? 1 : 0);
}

function cell(value) {
  if (value === null) return '';
  if (typeof value === 'number') return figure(value);
  const { median, least, most } = value;
  return least === most ? figure(median) : `${figure(median)} (${figure(least)}-${figure(most)})`;
}

/** The table as Markdown. */
export function markdown(results) {
  const { frames, repeats, rounds, streams, seconds } = results.settings;
  const lines = [
    `${frames} frames of 20 ms ${repeats} times, ${streams} streams for ${seconds} s ${rounds} times, by turns.`,
    `The machine's load when it began: ${results.loadBefore.toFixed(2)}.`,
    '',
    '| | Node.js | evenkeel | must be | |',
    '|---|---|---|---|---|',
  ];
  for (const { name, peer, evenkeel, limit, isMet } of rows(results)) {
    const verdict = isMet === undefined ? '' : isMet ? 'kept' : 'MISSED';
    lines.push(`| ${name} | ${cell(peer)} | ${cell(evenkeel)} | ${limit ?? ''} | ${verdict} |`);
  }
  return lines.join('\n');
}

