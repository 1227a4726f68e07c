// A server without workers: PCM comes in over TCP (48 kHz, 16 bit, mono), sealed Opus goes back, each packet after its length.
// Usage: node server.mjs PORT KEY_HEX
import net from 'node:net';
import { Transform, pipeline } from 'node:stream';
import { Engine } from 'evenkeel';

export function serve(port, key) {
  const engine = new Engine();
  // A client may be done with speaking before it has heard everything.
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    let stream;
    try {
      stream = engine.open({ key, format: 'i16', pacing: 'immediate' });
    } catch (error) {
      // No room: refused, rather than all of them late.
      return void socket.destroy(error);
    }
    // A client that sends faster than lanes code is held back by TCP itself.
    pipeline(socket, stream.transform(), lengths(), socket, () => {});
  });
  server.on('close', () => engine.close());
  return new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve(server)));
}

/** Puts the length, 16 bits big-endian, before each datagram. */
function lengths() {
  return new Transform({
    writableObjectMode: true,
    transform(datagram, _encoding, done) {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(datagram.length);
      done(null, Buffer.concat([length, datagram]));
    },
  });
}

if (process.argv[1] === import.meta.filename) {
  const [port, key] = process.argv.slice(2);
  if (key === undefined) {
    console.error('Usage: node server.mjs PORT KEY_HEX');
    process.exit(2);
  }
  const server = await serve(Number(port), Buffer.from(key, 'hex'));
  console.log(`listening on ${server.address().port}`);
}
