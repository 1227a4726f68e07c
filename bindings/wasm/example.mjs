// A second of a tone to sealed packets and back, with one packet in ten lost: node example.mjs
import { load } from 'evenkeel-wasm';

const { AudioProcessor, AudioReceiver } = await load();
const key = crypto.getRandomValues(new Uint8Array(32));
const session = { encryption: 'aes-256-gcm', connectionId: 7, sessionId: 'example' };
const processor = new AudioProcessor(key, session);
const receiver = new AudioReceiver(key, session);

let heard = 0;
for (let i = 0; i < 50; i++) {
  const samples = Float32Array.from({ length: 960 }, (_, n) => 0.3 * Math.sin(((i * 960 + n) * 440 * 2 * Math.PI) / 48_000));
  const packet = processor.processAudio(samples);
  if (i % 10 !== 9) receiver.receive(packet, i * 20);
  heard += receiver.pull(i * 20).length;
}
const { opened, lost, concealed, recovered } = receiver.getStats();
console.log(`${opened} packets came, ${lost} did not; ${heard} samples heard, ${concealed + recovered} stretches made up`);
processor.close();
receiver.close();
