// A worker thread with the streams pinned to it; it plays their sources too, as a gateway's event loop does.
import { parentPort, workerData } from 'node:worker_threads';
import { Stream, dispose } from './stream.mjs';

const { numbers, streams: total, seconds, warmUp, complexity, material } = workerData;
const voice = new Float32Array(material);
const PERIOD_MS = 20;
const FRAME = 960;
const frames = Math.floor(voice.length / FRAME);

const streams = numbers.map((number) => ({
  stream: new Stream({ ssrc: number + 1, complexity }),
  phase: (number * PERIOD_MS) / total,
  frame: number * 37,
}));

parentPort.once('message', ({ epochMs }) => {
  const most = streams.length * (seconds * 50 + 1);
  const figures = {
    latencyMs: new Float64Array(most),
    sourceLateMs: new Float64Array(most),
    busyMs: 0,
    frames: 0,
    packets: 0,
    opusBytes: 0,
  };
  // `performance.now()` counts from each thread's own start; the epoch is common to all.
  const start = epochMs - performance.timeOrigin;
  const [countFrom, until] = [start + warmUp * 1000, start + (warmUp + seconds) * 1000];
  const due = streams.map((member) => ({ member, at: start + member.phase }));
  let next = 0;

  const turn = () => {
    if (due.length === 0) return end();
    while (due[next].at <= performance.now()) {
      const slot = due[next];
      if (slot.at < until) push(slot, slot.at >= countFrom);
      slot.at += PERIOD_MS;
      next = (next + 1) % due.length;
      if (due[next].at >= until) return end();
    }
    setTimeout(turn, Math.max(0, due[next].at - performance.now()));
  };

  const push = ({ member, at }, counted) => {
    const taken = performance.now();
    const from = (member.frame++ % frames) * FRAME;
    const packets = member.stream.encode(voice.subarray(from, from + FRAME));
    for (const opus of packets) {
      member.stream.seal(opus);
      if (!counted) continue;
      figures.latencyMs[figures.packets++] = performance.now() - at;
      figures.opusBytes += opus.length;
    }
    if (!counted) return;
    figures.sourceLateMs[figures.frames++] = taken - at;
    figures.busyMs += performance.now() - taken;
  };

  const end = async () => {
    figures.latencyMs = figures.latencyMs.slice(0, figures.packets);
    figures.sourceLateMs = figures.sourceLateMs.slice(0, figures.frames);
    parentPort.postMessage(figures);
    streams.forEach(({ stream }) => stream.close());
    await dispose();
  };

  turn();
});

parentPort.postMessage('ready');
