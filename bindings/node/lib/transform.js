'use strict';
// A stream of an engine as a Transform of Node's.
const { Transform } = require('node:stream');

/** Bytes of a sample, by the format that a stream was opened for. */
const BYTES = { f32: 4, i16: 2 };

/**
 * PCM goes in: frames as typed arrays, or bytes (little-endian, as files and sockets give them) cut anywhere. Each
 * packet comes out as one chunk, a datagram. One frame is under way at a time, so that what comes before feels
 * what is behind.
 */
function createTransform(stream, { frameSamples, format, relay, leadMs }) {
  const frameBytes = frameSamples * BYTES[format];
  // In paced form a packet leaves up to a frame and its lead after it was written.
  const limit = Math.min(60_000, 1000 + 2 * stream.frameMs + leadMs);
  let held = Buffer.alloc(0);

  const send = async (self, frame) => {
    try {
      for (const packet of await stream.process(frame, limit)) self.push(packet.data);
    } catch (error) {
      // A frame that the engine could not do in time is lost, as on any network; the stream goes on.
      if (error?.code !== 'ERR_EVENKEEL_TIMEOUT') throw error;
    }
  };

  const toFrame = (bytes) => {
    // A copy, as bytes of a pool lie anywhere, and samples must not.
    const own = new Uint8Array(bytes);
    return format === 'f32' ? new Float32Array(own.buffer) : new Int16Array(own.buffer);
  };

  const run = async (self, chunk) => {
    if (relay || !(chunk instanceof Uint8Array)) return send(self, chunk);
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    while (held.length >= frameBytes) {
      const frame = toFrame(held.subarray(0, frameBytes));
      held = held.subarray(frameBytes);
      await send(self, frame);
    }
  };

  return new Transform({
    writableObjectMode: true,
    readableObjectMode: true,
    highWaterMark: 1,
    transform(chunk, _encoding, done) {
      run(this, chunk).then(() => done(), done);
    },
    flush(done) {
      if (held.length === 0) return done();
      // The last frame is filled up with silence.
      const last = Buffer.concat([held, Buffer.alloc(frameBytes - held.length)]);
      send(this, toFrame(last)).then(() => done(), done);
    },
    destroy(error, done) {
      stream.close();
      done(error);
    },
  });
}

module.exports = { createTransform };
