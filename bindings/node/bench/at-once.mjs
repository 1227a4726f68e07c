// Ten frames of ten streams that come at once: until the last packet is there.
import { parseArgs } from 'node:util';
import { Engine } from 'evenkeel';
import { KEY, SETTINGS, contender, readFrames } from './contenders.mjs';

const [STREAMS, WARM_UP, TIMES] = [10, 20, 50];

const { values } = parseArgs({ options: { path: { type: 'string' }, material: { type: 'string' } } });
const frame = readFrames(values.material);
const once = values.path === 'package' ? viaEngine() : await viaPeer();

const took = [];
for (let i = 0; i < WARM_UP + TIMES; i++) {
  const began = performance.now();
  await once(i);
  if (i >= WARM_UP) took.push(performance.now() - began);
  await new Promise((resolve) => setTimeout(resolve, 20));
}
took.sort((a, b) => a - b);
console.log(JSON.stringify({ median_ms: took[TIMES >> 1], max_ms: took.at(-1) }));
process.exit(0);

function viaEngine() {
  const engine = new Engine();
  const streams = Array.from({ length: STREAMS }, () => engine.open({ ...SETTINGS, key: KEY, pacing: 'immediate' }));
  return (i) => Promise.all(streams.map((stream, n) => stream.process(frame(i + 37 * n))));
}

async function viaPeer() {
  const open = await contender('peer');
  const streams = Array.from({ length: STREAMS }, open);
  return (i) => streams.forEach((stream, n) => stream.encode(frame(i + 37 * n)));
}
