// Sends a tone to a device by UDP, sealed and on time. Usage: node udp-sender.mjs HOST PORT KEY_HEX [SECONDS]
import dgram from 'node:dgram';
import { Engine } from 'evenkeel';

const FRAME_MS = 20;
const RATE = 48_000;

export function sendTone({ host, port, key, seconds }) {
  const engine = new Engine({ lanes: 1 });
  const socket = dgram.createSocket('udp4');
  const stream = engine.open({ key, bitrate: 24_000, onPacket: ({ data }) => socket.send(data, port, host) });
  const frames = (seconds * 1000) / FRAME_MS;
  const began = performance.now();
  let next = 0;
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      // As many frames as are due: timers of Node.js come late, and the engine evens that out.
      while (next < frames && next * FRAME_MS <= performance.now() - began) stream.write(tone(next++));
      if (next < frames) return;
      clearInterval(timer);
      setTimeout(() => {
        const { packets } = stream.getStats();
        engine.close();
        socket.close(() => resolve(packets));
      }, 100);
    }, FRAME_MS / 2);
  });
}

function tone(frame) {
  const samples = (RATE * FRAME_MS) / 1000;
  return Float32Array.from({ length: samples }, (_, i) => {
    return 0.2 * Math.sin((2 * Math.PI * 440 * (frame * samples + i)) / RATE);
  });
}

if (process.argv[1] === import.meta.filename) {
  const [host, port, key, seconds = '5'] = process.argv.slice(2);
  if (key === undefined) {
    console.error('Usage: node udp-sender.mjs HOST PORT KEY_HEX [SECONDS]');
    process.exit(2);
  }
  const packets = await sendTone({ host, port: Number(port), key: Buffer.from(key, 'hex'), seconds: Number(seconds) });
  console.log(`${packets} packets sent`);
}
