#!/usr/bin/env node
// What a gateway in Node.js does with calls in LiveKit rooms, without its MQTT: it joins each call's room with the SDK, takes
// the agent's PCM, resamples, codes and encrypts it, and decodes and publishes what the device says. `tools/livekit compare`
// runs it. A line of JSON for each call comes on stdin, and one is answered: where the device shall send.
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(import.meta.url);
const {
  AudioFrame, AudioResampler, AudioResamplerQuality, AudioSource, AudioStream, LocalAudioTrack, Room, RoomEvent, TrackKind,
  TrackPublishOptions, TrackSource,
} = require('@livekit/rtc-node');
const { OpusEncoder } = require('@discordjs/opus');

const ROOM_RATE = 48_000;
const DOWN_RATE = 24_000;
const UP_RATE = 16_000;
const FRAME = (DOWN_RATE * 60) / 1000;
const HEADER_BYTES = 16;
const OPUS_SET_APPLICATION = 4000;
const OPUS_APPLICATION_VOIP = 2048;
const OPUS_SET_COMPLEXITY = 4010;

const socket = createSocket('udp4');
const calls = new Map();

class Call {
  constructor({ key, ssrc }) {
    [this.key, this.ssrc, this.sequence, this.timestamp] = [Buffer.from(key, 'hex'), ssrc, 0, 0];
    this.device = null;
    this.resampler = new AudioResampler(ROOM_RATE, DOWN_RATE, 1, AudioResamplerQuality.QUICK);
    this.encoder = new OpusEncoder(DOWN_RATE, 1);
    this.encoder.applyEncoderCTL(OPUS_SET_APPLICATION, OPUS_APPLICATION_VOIP);
    this.encoder.applyEncoderCTL(OPUS_SET_COMPLEXITY, 5);
    this.encoder.setBitrate(24_000);
    this.decoder = new OpusEncoder(UP_RATE, 1);
    this.source = new AudioSource(UP_RATE, 1);
    this.pending = new Int16Array(FRAME);
    this.held = 0;
  }

  async join({ url, token }) {
    this.room = new Room();
    this.room.on(RoomEvent.TrackSubscribed, (track) => {
      if (track.kind === TrackKind.KIND_AUDIO) this.listen(track);
    });
    await this.room.connect(url, token, { autoSubscribe: true, dynacast: false });
    const track = LocalAudioTrack.createAudioTrack('device', this.source);
    const options = new TrackPublishOptions({ source: TrackSource.SOURCE_MICROPHONE });
    await this.room.localParticipant.publishTrack(track, options);
  }

  async listen(track) {
    for await (const frame of new AudioStream(track, ROOM_RATE, 1)) {
      for (const { data } of this.resampler.push(frame)) this.code(data);
    }
  }

  code(data) {
    for (let at = 0; at < data.length; ) {
      const taken = Math.min(FRAME - this.held, data.length - at);
      this.pending.set(data.subarray(at, at + taken), this.held);
      [this.held, at] = [this.held + taken, at + taken];
      if (this.held === FRAME) {
        this.held = 0;
        this.send(this.encoder.encode(Buffer.from(this.pending.buffer, 0, 2 * FRAME)));
      }
    }
  }

  send(opus) {
    if (!this.device) return;
    const header = Buffer.alloc(HEADER_BYTES);
    header[0] = 1;
    header.writeUInt16BE(opus.length, 2);
    header.writeUInt32BE(this.ssrc, 4);
    header.writeUInt32BE((this.timestamp += 60), 8);
    header.writeUInt32BE(++this.sequence, 12);
    const cipher = createCipheriv('aes-128-ctr', this.key, header);
    socket.send(Buffer.concat([header, cipher.update(opus), cipher.final()]), this.device.port, this.device.address);
  }

  async hear(datagram, from) {
    this.device = from;
    const header = datagram.subarray(0, HEADER_BYTES);
    const decipher = createDecipheriv('aes-128-ctr', this.key, header);
    const opus = Buffer.concat([decipher.update(datagram.subarray(HEADER_BYTES)), decipher.final()]);
    let pcm;
    try {
      pcm = this.decoder.decode(opus);
    } catch {
      return; // as the first packet of a device, which only says where it is
    }
    const samples = new Int16Array(pcm.buffer.slice(pcm.byteOffset, pcm.byteOffset + pcm.length));
    // As such a gateway does: a frame that the room does not take is gone, and the call goes on.
    await this.source.captureFrame(new AudioFrame(samples, UP_RATE, 1, samples.length)).catch(() => {});
  }
}

socket.on('message', (datagram, from) => {
  if (datagram.length > HEADER_BYTES) calls.get(datagram.readUInt32BE(4))?.hear(datagram, from);
});
await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
answer({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const wanted = JSON.parse(line);
  const call = new Call(wanted);
  calls.set(wanted.ssrc, call);
  await call.join(wanted);
  answer({ port: socket.address().port });
}
process.exit(0);
