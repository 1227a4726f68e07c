// The two paths that are compared, with one face: `encode(frame)` gives what is sent for it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { AudioProcessor } from 'evenkeel';

export const FRAME = 960;
export const KEY = Buffer.alloc(32, 7);
export const SETTINGS = { inputRate: 48_000, codedRate: 24_000, bitrate: 24_000, complexity: 5 };

/** A file of the peer's, which stands in the repository with its dependencies. */
export function ofPeer(name) {
  return import(pathToFileURL(join(process.env.EVENKEEL_ROOT, 'bench/peers/node', name)));
}

/** Frames of the material, from its beginning and around. */
export function readFrames(path) {
  const bytes = readFileSync(path);
  const samples = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  const frames = Math.floor(samples.length / FRAME);
  return (index) => samples.subarray((index % frames) * FRAME, ((index % frames) + 1) * FRAME);
}

/** A function that makes streams of a path. */
export async function contender(path) {
  if (path === 'package') return () => new PackageStream();
  if (path !== 'peer') throw new Error(`--path is package or peer, not ${path}`);
  const { Stream } = await ofPeer('stream.mjs');
  return () => new PeerStream(new Stream());
}

class PeerStream {
  #stream;
  constructor(stream) {
    this.#stream = stream;
  }

  encode(frame) {
    return this.#stream.encode(frame).map((opus) => this.#stream.seal(opus));
  }

  close() {
    this.#stream.close();
  }
}

class PackageStream {
  #processor = new AudioProcessor(KEY, SETTINGS);
  #sequence = 0;

  encode(frame) {
    const header = Buffer.alloc(16);
    header[0] = 1;
    header.writeUInt32BE(1, 4);
    header.writeUInt32BE(this.#sequence * 20, 8);
    header.writeUInt32BE(++this.#sequence, 12);
    const began = performance.now();
    const packet = this.#processor.processAudio(frame, header);
    this.callUs = (performance.now() - began) * 1000;
    return [packet];
  }

  get nativeUs() {
    return this.#processor.getStats().processing.mean * 1000;
  }

  close() {
    this.#processor.close();
  }
}
