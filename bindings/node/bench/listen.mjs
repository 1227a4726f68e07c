// Writes what the package makes of a recording, and prints its bit rate: for quality/node_package.py.
// Usage: node listen.mjs IN.wav OUT.wav BITRATE
import { AudioProcessor, OpusDecoder, StreamCipher } from 'evenkeel';
import { FRAME, KEY, SETTINGS, ofPeer } from './contenders.mjs';

const [from, to, bitrate] = process.argv.slice(2);
const { readWav, writeWav } = await ofPeer('voice.mjs');
const { rate, samples } = readWav(from);
if (rate !== SETTINGS.inputRate) throw new Error(`${from}: ${rate} Hz; ${SETTINGS.inputRate} Hz is read`);

const processor = new AudioProcessor(KEY, { ...SETTINGS, bitrate: Number(bitrate) });
const [cipher, decoder] = [new StreamCipher(KEY), new OpusDecoder(SETTINGS.codedRate, 1)];
let [bytes, packets] = [0, 0];
const heard = [];
// A frame more than there is, so that what the resampler holds comes out.
for (let at = 0; at < samples.length + FRAME; at += FRAME) {
  const frame = new Float32Array(FRAME);
  samples.subarray(at, at + FRAME).forEach((sample, i) => (frame[i] = sample / 32_768));
  const header = Buffer.alloc(16);
  header[0] = 1;
  header.writeUInt32BE(++packets, 12);
  const packet = processor.processAudio(frame, header);
  const opus = cipher.process(packet.subarray(0, 16), packet.subarray(16));
  bytes += opus.length;
  heard.push(decoder.decode(opus));
}
const pcm = Buffer.concat(heard);
writeWav(to, SETTINGS.codedRate, Int16Array.from({ length: pcm.length >> 1 }, (_, i) => pcm.readInt16LE(2 * i)));
console.log(`${((8 * bytes) / (20 * packets)).toFixed(3)} kb/s`);
