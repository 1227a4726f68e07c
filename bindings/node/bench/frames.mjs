// One path, frame by frame on one thread: what each frame took, and the CPU time of the whole process.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { contender, readFrames } from './contenders.mjs';

const WARM_UP = 4000;

const { values } = parseArgs({
  options: {
    path: { type: 'string' },
    material: { type: 'string' },
    frames: { type: 'string' },
    packets: { type: 'string' },
  },
});
const [frame, count] = [readFrames(values.material), Number(values.frames)];
const open = await contender(values.path);

// Until the compiler of Node.js has done its work, as in a gateway that has run for a while.
const before = open();
for (let i = 0; i < WARM_UP; i++) before.encode(frame(i));
before.close();

const stream = open();
const [frameUs, callUs] = [new Float64Array(count), new Float64Array(count)];
const packets = [];
const cpuBefore = process.cpuUsage();
for (let i = 0; i < count; i++) {
  const samples = frame(i);
  const began = performance.now();
  packets.push(...stream.encode(samples));
  frameUs[i] = (performance.now() - began) * 1000;
  callUs[i] = stream.callUs;
}
const { user, system } = process.cpuUsage(cpuBefore);
writeFileSync(values.packets, Buffer.concat(packets));
const figures = { cpu_us: (user + system) / count, native_us: stream.nativeUs, frame_us: [...frameUs] };
console.log(JSON.stringify(values.path === 'package' ? { ...figures, call_us: [...callUs] } : figures));
stream.close();
// The peer's SDK has threads of its own, which would keep the process.
process.exit(0);
