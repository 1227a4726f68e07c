// WAV files of 16 bit PCM, and the voices the streams speak with.
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const RECORDINGS = '/usr/share/sounds/alsa';
const COMMITTED = new URL('../../../testdata/clips/cmn-16k.wav', import.meta.url);

/** Mono samples and their rate in Hz. */
export function readWav(path) {
  const file = readFileSync(path);
  if (file.toString('latin1', 0, 4) !== 'RIFF' || file.toString('latin1', 8, 12) !== 'WAVE') {
    throw new Error(`${path}: not a WAV file`);
  }
  let rate;
  for (let at = 12; at + 8 <= file.length; ) {
    const [id, len] = [file.toString('latin1', at, at + 4), file.readUInt32LE(at + 4)];
    const body = file.subarray(at + 8, at + 8 + len);
    if (id === 'fmt ') {
      const [format, channels, bits] = [body.readUInt16LE(0), body.readUInt16LE(2), body.readUInt16LE(14)];
      if (format !== 1 || channels !== 1 || bits !== 16) {
        throw new Error(`${path}: format ${format}, ${channels} channels, ${bits} bit; only mono 16 bit PCM is read`);
      }
      rate = body.readUInt32LE(4);
    }
    if (id === 'data') {
      const samples = new Int16Array(body.length >> 1);
      for (let i = 0; i < samples.length; i++) samples[i] = body.readInt16LE(2 * i);
      return { rate, samples };
    }
    at += 8 + len + (len & 1);
  }
  throw new Error(`${path}: no data`);
}

/** Writes mono samples. */
export function writeWav(path, rate, samples) {
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + 2 * samples.length, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(rate, 24);
  head.writeUInt32LE(2 * rate, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36);
  head.writeUInt32LE(2 * samples.length, 40);
  writeFileSync(path, Buffer.concat([head, Buffer.from(samples.buffer, samples.byteOffset, 2 * samples.length)]));
}

/** f32 samples at 48 kHz: ALSA's recordings as `evenkeel load` takes them, else a clip of ours. */
export function voice() {
  const names = existsSync(RECORDINGS) ? readdirSync(RECORDINGS) : [];
  const paths = names.filter((name) => name.endsWith('.wav') && name !== 'Noise.wav').sort();
  const all = paths.length ? paths.map((name) => at48k(join(RECORDINGS, name))) : [at48k(COMMITTED)];
  const samples = new Float32Array(all.reduce((sum, one) => sum + one.length, 0));
  all.reduce((at, one) => (samples.set(one, at), at + one.length), 0);
  return samples;
}

/** A file's samples; from a whole fraction of 48 kHz by linear interpolation, which is good enough for a load. */
function at48k(path) {
  const { rate, samples } = readWav(path);
  const factor = 48_000 / rate;
  if (!Number.isInteger(factor)) throw new Error(`${path}: ${rate} Hz does not divide 48000 Hz`);
  return Float32Array.from({ length: samples.length * factor }, (_, i) => {
    const [at, part] = [Math.floor(i / factor), (i % factor) / factor];
    const next = samples[at + 1] ?? samples[at];
    return (samples[at] + (next - samples[at]) * part) / 32_768;
  });
}
