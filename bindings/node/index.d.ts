// Times are milliseconds, rates Hz, bit rates bits per second. Samples are interleaved; floats have full scale at -1 to 1.
// What is thrown has a `code`; see EvenkeelError.
import { EventEmitter } from 'node:events';
import { Transform } from 'node:stream';

/** Samples: 32-bit floats, or 16-bit integers. */
export type Samples = Float32Array | Int16Array;

/**
 * Errors by `code`. A TypeError or RangeError of this package is `instanceof EvenkeelError` too.
 *
 * - `ERR_EVENKEEL_TYPE` (TypeError): a value of the wrong type.
 * - `ERR_EVENKEEL_DETACHED` (TypeError): a buffer that was transferred away.
 * - `ERR_EVENKEEL_RANGE` (RangeError): a value outside its range.
 * - `ERR_EVENKEEL_LENGTH` (RangeError): a buffer of the wrong length.
 * - `ERR_EVENKEEL_NOT_FINITE` (RangeError): a sample that is NaN or infinite.
 * - `ERR_EVENKEEL_PACKET`: a packet that is none. Nothing changed.
 * - `ERR_EVENKEEL_CLOSED`: used after it was closed.
 * - `ERR_EVENKEEL_TIMEOUT`: no packet within the limit.
 * - `ERR_EVENKEEL_REFUSED`: no room for another stream.
 * - `ERR_EVENKEEL_UNSUPPORTED`: a request that is not offered.
 * - `ERR_EVENKEEL_CODEC`, `ERR_EVENKEEL_SYSTEM`: the codec or the machine failed.
 * - `ERR_EVENKEEL_PLATFORM`: no binary for this platform.
 */
export class EvenkeelError extends Error {
  constructor(message: string, code: string);
  code: string;
}

export interface EncoderOptions {
  /** Default `voip`; of `OpusEncoder`, `audio`. */
  application?: 'voip' | 'audio' | 'lowdelay';
  /** 6000 to 510000. Default 24000; of `OpusEncoder`, what libopus takes by itself. */
  bitrate?: number;
  /** 0 (cheapest) to 10 (best). Default 5; of `OpusEncoder`, 9. */
  complexity?: number;
  /** Default `cvbr`: varying, but within the target over a short time. */
  rateControl?: 'vbr' | 'cvbr' | 'cbr';
  /** A coarse copy of each frame in the next one. Default false. Does nothing while `expectedLoss` is 0. */
  fec?: boolean;
  /** Loss to expect, in percent. Default 0. */
  expectedLoss?: number;
  /** Send nothing in silence. Default false. */
  dtx?: boolean;
  /** Default `full`. */
  maxBandwidth?: 'narrow' | 'medium' | 'wide' | 'superwide' | 'full';
  /** Default `auto`. */
  signal?: 'auto' | 'voice' | 'music';
}

export interface NonFiniteOption {
  /** What to do with samples that are NaN or infinite. Default `throw`. */
  nonFinite?: 'throw' | 'silence';
}

/** When a ladder is climbed; defaults are those of the engine. */
export interface Thresholds {
  /** Down when the last hundred frames took more than this in the mean. Default 10. */
  downMeanMs?: number;
  /** Down when one frame took more. Default 15. */
  downFrameMs?: number;
  /** The same, where the next rung is `minimal` or below. Default 25. */
  downFrameToMinimalMs?: number;
  /** Up when the mean is below this. Default 5. */
  upMeanMs?: number;
  /** The same, from `minimal` or below. Default 10. */
  upMeanFromMinimalMs?: number;
  /** Between tries to go up. Default 5000. */
  upIntervalMs?: number;
  /** A try failed if it has to go down within this time; and so long it waits after going down. Default 10000. */
  trialMs?: number;
}

export interface AudioProcessorOptions extends EncoderOptions, NonFiniteOption {
  /** Of what `processAudio` takes. Default 48000. */
  inputRate?: number;
  /** Of what is coded: 8000, 12000, 16000, 24000 or 48000. Default 24000. */
  codedRate?: number;
  /** Of what `open` gives; one that Opus codes. Default `inputRate`, or `codedRate` where Opus does not code that. */
  outputRate?: number;
  /** 1 or 2. Default 1. */
  channels?: number;
  /** 2.5, 5, 10, 20, 40, 60, 80, 100 or 120. Default 20. */
  frameMs?: number;
  /** What `open` gives. Default `f32`. */
  output?: 'f32' | 'i16';
  /** Whether packets begin with their header (default), or only the payload is given and the header is a bare IV. */
  framing?: 'packet' | 'payload';
  /** The far end plays PCM: rung `minimal`. Default false. */
  pcm?: boolean;
  /** The far end takes PCM in clear: rung `emergency`, if it is allowed too. Default false. */
  clear?: boolean;
  /** Default false. */
  allowEmergency?: boolean;
  thresholds?: Thresholds;
}

/** Times of frames, in milliseconds. */
export interface FrameStats {
  frames: number;
  min: number;
  mean: number;
  stdev: number;
  /** The mean absolute difference of consecutive frames. */
  jitter: number;
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
  /** Of the last hundred; 0 where that is not kept. */
  recentMean: number;
  recentMax: number;
}

export interface ProcessorStats {
  processing: FrameStats;
  packets: number;
  bytes: number;
  /** Frames with nothing to send (DTX). */
  silent: number;
  /** Frames that a lower rung carried because the encoder failed. */
  fallbacks: number;
  /** Frames that no rung carried. */
  muted: number;
  silencedSamples: number;
  opened: number;
  rungChanges: number;
}

/** Frames of PCM to sealed packets and back, on the thread that calls. */
export class AudioProcessor {
  /** A key of 16 bytes (AES-128) or 32 (AES-256). */
  constructor(key: Uint8Array, options?: AudioProcessorOptions);
  /**
   * One frame, exactly `frameMs` long: resampled, coded, encrypted with the 16-byte header as counter. Bytes 2 and 3 of the
   * header are filled with the payload's length. `null` where there is nothing to send (DTX, muted). Counters must
   * not repeat under a key.
   */
  processAudio(samples: Samples, header: Uint8Array): Buffer | null;
  /** The samples of a packet; of a bare payload, where its IV is given. Replays are the caller's to refuse. */
  open(packet: Uint8Array, iv?: Uint8Array): Samples;
  /** `full/5`, say. */
  rung(): string;
  /** Best first. */
  rungs(): string[];
  /** To a rung by its place, 0 the best; one past the last mutes. */
  setPosition(position: number): void;
  /** Lets the encoder fail for so many frames, to rehearse it. */
  rehearseFailure(frames: number): void;
  getStats(): ProcessorStats;
  /** Whether it was open. */
  close(): boolean;
}

export type Mode = 'full' | 'medium' | 'minimal' | 'emergency' | 'muted';

export interface ModeChange {
  from: string;
  to: string;
  reason: 'slow' | 'room' | 'asked';
}

export interface LadderEvents {
  modeChange: [change: ModeChange];
  emergency: [change: ModeChange];
  /** Frames so far that a lower rung carried because the encoder failed. */
  fallback: [frames: number];
  /** Frames so far that no rung carried. */
  mute: [frames: number];
}

/** An AudioProcessor that sends a frame on a lower rung rather than not at all. */
export class FallbackAudioProcessor extends EventEmitter {
  constructor(key: Uint8Array, options?: AudioProcessorOptions);
  processAudio(samples: Samples, header: Uint8Array): Buffer | null;
  open(packet: Uint8Array, iv?: Uint8Array): Samples;
  readonly rung: string;
  readonly rungs: string[];
  readonly mode: Mode;
  /** To the best rung of a mode, or to a rung by its name. Not of an adaptive one. */
  setMode(mode: Mode | string): void;
  rehearseFailure(frames: number): void;
  getStats(): ProcessorStats;
  close(): boolean;
  on<E extends keyof LadderEvents>(event: E, listener: (...args: LadderEvents[E]) => void): this;
  once<E extends keyof LadderEvents>(event: E, listener: (...args: LadderEvents[E]) => void): this;
}

/** Goes down the ladder when frames take too long, up when there is room. */
export class AdaptiveAudioProcessor extends FallbackAudioProcessor {
  /** What a frame took, where the caller knows more of its way. `nowMs` counts from any moment, the same each time. */
  observe(ms: number, nowMs?: number): void;
}

/** libopus, with the calls of `@discordjs/opus`. PCM in Buffers is 16-bit little-endian. */
export class OpusEncoder {
  constructor(rate: number, channels: number, options?: EncoderOptions);
  encode(frame: Buffer | Uint8Array | Samples): Buffer;
  decode(packet: Uint8Array): Buffer;
  setBitrate(bitrate: number): void;
  getBitrate(): number;
  /** By the numbers of `opus_defines.h`. */
  applyEncoderCTL(request: number, value: number): void;
  applyDecoderCTL(request: number, value: number): void;
  /** Samples per channel by which coding delays. */
  lookahead(): number;
  reset(): void;
  close(): boolean;
}

export class OpusDecoder {
  constructor(rate: number, channels: number);
  decode(packet: Uint8Array): Buffer;
  decodeFloat(packet: Uint8Array): Float32Array;
  /** The lost packet before this one, from what this one carries of it, else concealed. */
  decodeFec(packet: Uint8Array, ms: number): Buffer;
  /** A lost packet, made up for. */
  conceal(ms: number): Buffer;
  applyDecoderCTL(request: number, value: number): void;
  reset(): void;
  close(): boolean;
}

export interface ResamplerOptions extends NonFiniteOption {
  channels?: number;
  /** Leave out the delay at the start, so that output and input begin together. Default false. */
  aligned?: boolean;
}

/** Between 8000, 12000, 16000, 22050, 24000, 32000, 44100 and 48000. */
export class Resampler {
  constructor(from: number, to: number, options?: ResamplerOptions);
  push(samples: Float32Array): Float32Array;
  push(samples: Int16Array): Int16Array;
  push(samples: Samples): Samples;
  /** What is still inside; then it is as new. */
  flush(): Samples;
  /** Samples per channel at the output rate. */
  delay(): number;
  close(): boolean;
}

/** AES-CTR with a key that is prepared once. */
export class StreamCipher {
  constructor(key: Uint8Array);
  /** Encrypts or decrypts; `iv` has 16 bytes. */
  process(iv: Uint8Array, data: Uint8Array): Buffer;
  processInPlace(iv: Uint8Array, data: Uint8Array): void;
  close(): boolean;
}

/** Times of any number of frames in 4 KB. */
export class AudioMetrics {
  constructor();
  recordFrame(ms: number): void;
  getStats(): FrameStats;
  reset(): void;
}

export interface MonitorStats extends FrameStats {
  /** Frames over the limit. */
  slow: number;
  seconds: number;
  /** CPU time of the process over time. */
  cores: number;
  rssMb: number;
}

export class PerformanceMonitor extends EventEmitter {
  constructor(options?: { /** Default 15. */ limitMs?: number });
  recordFrame(ms: number): void;
  measure<T>(work: () => T): T;
  getStats(): MonitorStats;
  reset(): void;
  on(event: 'slow', listener: (frame: { ms: number; limitMs: number }) => void): this;
}

export interface EngineOptions {
  /** Threads. Default one a core. */
  lanes?: number;
  /** Pin them to cores, where that is allowed. Default true. */
  pin?: boolean;
  /** Ask for real-time priority, where that is allowed. Default true. */
  realtime?: boolean;
  /** The share of a lane that streams may fill, 0.1 to 1. Default 0.92. */
  budget?: number;
  /** Lower quality rather than be late. Default true. */
  adapt?: boolean;
  /** Refuse streams for which there is no room. Default true. */
  admission?: boolean;
  allowEmergency?: boolean;
  /** Packets that wait for this thread before the oldest is dropped. Default 4096. */
  queuePackets?: number;
}

export interface StreamOptions extends EncoderOptions, NonFiniteOption {
  /** 16 or 32 bytes, as `encryption` wants. */
  key: Uint8Array;
  /** Default `aes-128-ctr` or `aes-256-ctr`, by the key. */
  encryption?: 'aes-128-ctr' | 'aes-256-ctr' | 'aes-128-gcm' | 'aes-256-gcm' | 'chacha20-poly1305';
  /** In every header. Default random. */
  connectionId?: number;
  /** What the keys of the AEAD suites are derived with. */
  sessionId?: string;
  /** Default `downlink`: the flag of the gateway's packets is set. */
  direction?: 'downlink' | 'uplink';
  /** Where timestamps start. Default random. */
  timestampStart?: number;
  /** Default 48000. */
  inputRate?: number;
  /** Default `inputRate`, or 48000 where Opus does not code that. */
  codedRate?: number;
  channels?: number;
  frameMs?: number;
  /** What `write` takes. Default `f32`. */
  format?: 'f32' | 'i16';
  /** Opus packets in, the same out in packets of `frameMs`. Default false. */
  relay?: boolean;
  /** At their deadlines, a frame apart (default), or as soon as they are ready. */
  pacing?: 'paced' | 'immediate';
  /** From the write of a frame until its packet is due. Default 1.725. */
  leadMs?: number;
  /** Frames that wait for the codec before the oldest is dropped. Default 4. */
  queueFrames?: number;
  /** Packets later than this are dropped and counted. Default 50. */
  lateLimitMs?: number;
  pcm?: boolean;
  clear?: boolean;
  /** Gets packets as they come. Without it they wait for `process` or an iterator. */
  onPacket?: (packet: Packet) => void;
  /** Of `process`. Default 50. */
  limitMs?: number;
  /** Packets that wait for an iterator before the oldest is dropped. Default 64. */
  highWaterMark?: number;
}

/** A sealed packet that left its lane. */
export class Packet {
  private constructor();
  /** The datagram: header, ciphertext, tag. */
  readonly data: Buffer;
  readonly sequence: number;
  readonly timestamp: number;
  /** Of its first sample, since the stream began. */
  readonly mediaMs: number;
  /** From the write until it left its lane. */
  readonly latencyMs: number;
  /** When it left less when it should have. */
  readonly departureErrorMs: number;
}

export interface StreamStats {
  lane: number;
  rung: string;
  frames: number;
  packets: number;
  bytes: number;
  dropped: number;
  late: number;
  silent: number;
  muted: number;
  fallbacks: number;
  rungChanges: number;
  queued: number;
  /** The key has sealed all it may. */
  keyExhausted: boolean;
  processing: FrameStats;
  latency: FrameStats;
  departure: FrameStats;
  /** Packets that wait for an iterator, and those dropped because none came. */
  unread: number;
  unreadDropped: number;
}

export interface EngineStats {
  lanes: { streams: number; load: number; position: number; cpuSeconds: number; moved: number }[];
  streams: number;
  opened: number;
  refused: number;
  frames: number;
  packets: number;
  dropped: number;
  late: number;
  outputDropped: number;
  rungChanges: number;
  latency: FrameStats;
  departure: FrameStats;
}

/** A stream of an engine; opened by it. Closed by `close`, or when nobody holds it any more. */
export class EngineStream implements AsyncIterable<Packet> {
  private constructor();
  readonly id: number;
  readonly connectionId: number;
  /** When within each frame period the engine would like its frames. */
  readonly phaseMs: number;
  readonly frameMs: number;
  readonly isClosed: boolean;
  onPacket: ((packet: Packet) => void) | undefined;
  /** Hands over one frame, exactly `frameMs` long (an Opus packet, of a relay). Never waits. Returns its ticket. */
  write(frame: Samples | Uint8Array): number;
  /** The same, and what becomes of it: one packet as a rule, none in silence (DTX), several of PCM. */
  process(frame: Samples | Uint8Array, limitMs?: number): Promise<Packet[]>;
  [Symbol.asyncIterator](): AsyncGenerator<Packet, void, void>;
  /** PCM in (frames as typed arrays, or bytes cut anywhere), a datagram a chunk out. Closes this stream when it ends. */
  transform(): Transform;
  getStats(): StreamStats;
  close(): boolean;
}

/** Threads that code and seal, for any number of streams and threads of JavaScript. */
export class Engine {
  constructor(options?: EngineOptions);
  /** The engine of another thread of JavaScript, by its `token`. It runs until all have closed it. */
  static attach(token: number, options?: Pick<EngineOptions, 'queuePackets'>): Engine;
  readonly token: number;
  open(options: StreamOptions): EngineStream;
  getStats(): EngineStats;
  prometheus(): string;
  close(): boolean;
}
