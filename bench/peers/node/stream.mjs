// One stream as a gateway in Node.js codes it: f32 -> int16 -> the SDK's resampler -> Opus -> AES-256-CTR.
import { createCipheriv } from 'node:crypto';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { AudioFrame, AudioResampler, AudioResamplerQuality, dispose } = require('@livekit/rtc-node');
const { OpusEncoder } = require('@discordjs/opus');

export { OpusEncoder, dispose };

/** What is coded, in Hz. */
export const CODED_RATE = 24_000;
const FRAME = CODED_RATE / 50;

const OPUS_SET_APPLICATION = 4000;
const OPUS_APPLICATION_VOIP = 2048;
const OPUS_SET_COMPLEXITY = 4010;
const HEADER_BYTES = 16;

export class Stream {
  constructor({ ssrc = 1, rate = 48_000, complexity = 5, bitrate = 24_000 } = {}) {
    this.rate = rate;
    this.ssrc = ssrc;
    this.sequence = 0;
    this.key = Buffer.alloc(32, 7);
    this.resampler = new AudioResampler(rate, CODED_RATE, 1, AudioResamplerQuality.QUICK);
    // The package creates its encoder for AUDIO; before the first frame the application may still be changed.
    this.encoder = new OpusEncoder(CODED_RATE, 1);
    this.encoder.applyEncoderCTL(OPUS_SET_APPLICATION, OPUS_APPLICATION_VOIP);
    this.encoder.applyEncoderCTL(OPUS_SET_COMPLEXITY, complexity);
    this.encoder.setBitrate(bitrate);
    // The resampler's output need not be whole frames.
    this.pending = new Int16Array(FRAME);
    this.held = 0;
  }

  /** Opus packets that these f32 samples complete. */
  encode(samples) {
    const pcm = new Int16Array(samples.length);
    for (let i = 0; i < samples.length; i++) {
      pcm[i] = Math.max(-32_768, Math.min(32_767, Math.round(samples[i] * 32_767)));
    }
    return this.code(this.resampler.push(new AudioFrame(pcm, this.rate, 1, pcm.length)));
  }

  /** Opus packets of what the resampler still held, the last one filled up with silence. */
  finish() {
    const packets = this.code(this.resampler.flush());
    this.pending.fill(0, this.held, FRAME);
    if (this.held > 0) packets.push(this.encodeFrame());
    return packets;
  }

  code(frames) {
    const packets = [];
    for (const { data } of frames) {
      for (let at = 0; at < data.length; ) {
        const taken = Math.min(FRAME - this.held, data.length - at);
        this.pending.set(data.subarray(at, at + taken), this.held);
        [this.held, at] = [this.held + taken, at + taken];
        if (this.held === FRAME) packets.push(this.encodeFrame());
      }
    }
    return packets;
  }

  encodeFrame() {
    this.held = 0;
    return this.encoder.encode(Buffer.from(this.pending.buffer, 0, 2 * FRAME));
  }

  /** Header and ciphertext: a header of 16 bytes is the counter, and each packet has a cipher of its own. */
  seal(opus) {
    const header = Buffer.alloc(HEADER_BYTES);
    header[0] = 1;
    header.writeUInt16BE(opus.length, 2);
    header.writeUInt32BE(this.ssrc, 4);
    header.writeUInt32BE(this.sequence * 20, 8);
    header.writeUInt32BE(++this.sequence, 12);
    const cipher = createCipheriv('aes-256-ctr', this.key, header);
    return Buffer.concat([header, cipher.update(opus), cipher.final()]);
  }

  close() {
    this.resampler.close();
  }
}
