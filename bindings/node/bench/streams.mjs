// Many streams on an engine, fed and heard by the event loop of one process: the workload of bench/peers/node/run.mjs.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { Engine } from 'evenkeel';
import { KEY, SETTINGS, readFrames } from './contenders.mjs';

const PERIOD_MS = 20;
const WARM_UP_MS = 2000;
/** Of the event loop's monitor: a timer that is set for so long, and whose lateness is what counts. */
const RESOLUTION_MS = 10;

const { values } = parseArgs({
  options: { streams: { type: 'string' }, seconds: { type: 'string' }, material: { type: 'string' } },
});
const [count, seconds, frame] = [Number(values.streams), Number(values.seconds), readFrames(values.material)];

const engine = new Engine();
const start = performance.now() + 200;
const [countFrom, until] = [start + WARM_UP_MS, start + WARM_UP_MS + seconds * 1000];
// From when a frame was due until its packet was sealed, as the peer counts; and until JavaScript had it. Of that, what
// passed before the frame was written, and then in the engine.
const [latencyMs, deliveredMs, sourceLateMs, laneMs] = [[], [], [], []];

const slots = Array.from({ length: count }, (_, number) => {
  const first = start + (number * PERIOD_MS) / count;
  const onPacket = (packet) => {
    const due = first + packet.mediaMs;
    if (due < countFrom) return;
    deliveredMs.push(performance.now() - due);
    laneMs.push(packet.latencyMs);
    latencyMs.push(lateness[Math.round(packet.mediaMs / PERIOD_MS)] + packet.latencyMs);
  };
  const lateness = [];
  return { lateness, stream: engine.open({ ...SETTINGS, key: KEY, pacing: 'immediate', onPacket }), at: first, frame: number * 37 };
});

const loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
let [written, began, cpuBefore] = [0, 0, undefined];
setTimeout(() => {
  loop.enable();
  [began, cpuBefore] = [performance.now(), process.cpuUsage()];
}, countFrom - performance.now());

let next = 0;
(function turn() {
  while (slots[next].at <= performance.now()) {
    const slot = slots[next];
    if (slot.at >= until) return void setTimeout(end, 200);
    const late = performance.now() - slot.at;
    slot.lateness.push(late);
    slot.stream.write(frame(slot.frame++));
    if (slot.at >= countFrom) {
      sourceLateMs.push(late);
      written++;
    }
    slot.at += PERIOD_MS;
    next = (next + 1) % count;
  }
  setTimeout(turn, Math.max(0, slots[next].at - performance.now()));
})();

function end() {
  loop.disable();
  const elapsed = performance.now() - began;
  const { user, system } = process.cpuUsage(cpuBefore);
  const lateOrLost = deliveredMs.filter((ms) => ms > 50).length + Math.max(0, written - deliveredMs.length);
  const { dropped, late, outputDropped, rungChanges } = engine.getStats();
  console.log(
    JSON.stringify({
      frames: written,
      packets: latencyMs.length,
      late_50ms: lateOrLost,
      late_50ms_share: lateOrLost / written,
      latency_ms: summary(latencyMs),
      delivered_ms: summary(deliveredMs),
      source_late_ms: summary(sourceLateMs),
      lane_ms: summary(laneMs),
      loop_delay_ms: { p50: loopDelay(50), p99: loopDelay(99), max: loop.max / 1e6 - RESOLUTION_MS },
      dropped: dropped + late + outputDropped,
      rung_changes: rungChanges,
      cores: (user + system) / 1e3 / elapsed,
      rss_mb: process.memoryUsage.rss() / 1e6,
    }),
  );
  engine.close();
}

function loopDelay(percentile) {
  return Math.max(0, loop.percentile(percentile) / 1e6 - RESOLUTION_MS);
}

/** Percentiles by nearest rank. */
function summary(times) {
  const sorted = Float64Array.from(times).sort();
  const at = (share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1) };
}
