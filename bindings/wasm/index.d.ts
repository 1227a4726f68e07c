// Times are milliseconds, rates Hz, bit rates bits per second. Samples are interleaved, floats with full scale at -1 to 1.
// What is thrown has a `code`; see EvenkeelError.

/** Samples: 32-bit floats, or 16-bit integers. */
export type Samples = Float32Array | Int16Array;

/**
 * Errors by `code`. A TypeError or RangeError of this package is `instanceof EvenkeelError` too.
 *
 * - `ERR_EVENKEEL_TYPE` (TypeError): a value of the wrong type.
 * - `ERR_EVENKEEL_DETACHED` (TypeError): a buffer that was transferred away, where the engine can tell.
 * - `ERR_EVENKEEL_RANGE` (RangeError): a value outside its range.
 * - `ERR_EVENKEEL_LENGTH` (RangeError): a buffer of the wrong length.
 * - `ERR_EVENKEEL_NOT_FINITE` (RangeError): a sample that is NaN or infinite.
 * - `ERR_EVENKEEL_PACKET`: a packet that is none, or not for this receiver. Nothing changed.
 * - `ERR_EVENKEEL_CLOSED`: used after it was closed.
 * - `ERR_EVENKEEL_CODEC`, `ERR_EVENKEEL_SYSTEM`: the codec failed, or the key has sealed all it may.
 * - `ERR_EVENKEEL_PLATFORM`: the module could not be fetched.
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

export interface SessionOptions {
  /** Default `aes-128-ctr` or `aes-256-ctr`, by the key. */
  encryption?: 'aes-128-ctr' | 'aes-256-ctr' | 'aes-128-gcm' | 'aes-256-gcm' | 'chacha20-poly1305';
  /** In every header. Default 1. */
  connectionId?: number;
  /** What the keys of the AEAD suites are derived with; at most 256 bytes of UTF-8. Default empty. */
  sessionId?: string;
  /** Which way the packets go; both ends say the same. Default `downlink`. */
  direction?: 'downlink' | 'uplink';
}

export interface AudioProcessorOptions extends EncoderOptions, NonFiniteOption, SessionOptions {
  /** Default 48000. */
  inputRate?: number;
  /** 1 or 2. Default 1. */
  channels?: number;
  /** Of what is coded: 8000, 12000, 16000, 24000 or 48000. Default 24000. */
  codedRate?: number;
  /** Default `channels`. */
  codedChannels?: number;
  /** 2.5, 5, 10, 20, 40, 60, 80, 100 or 120. Default 20. */
  frameMs?: number;
  /** Where timestamps start. Default 1. Random where a key is used again. */
  timestampStart?: number;
  /** The far end plays PCM: there is a rung `minimal`. Default false. */
  pcm?: boolean;
}

export interface ProcessorStats {
  frames: number;
  packets: number;
  payloadBytes: number;
  /** Frames with nothing to send (DTX). */
  silent: number;
  fallbacks: number;
  muted: number;
  silencedSamples: number;
}

export interface OpusReceiverOptions {
  /** Of what `pull` gives. Default 48000. */
  outputRate?: number;
  /** Of the decoder: 8000, 12000, 16000, 24000 or 48000. Default 24000. */
  decodedRate?: number;
  /** 1 or 2. Default 1. */
  channels?: number;
  /** The least delay aimed for. Default 20. */
  minDelayMs?: number;
  /** The most that is tolerated, up to 10000. Default 400. */
  maxDelayMs?: number;
  /** The least target in the first two seconds. Default 60. */
  initialDelayMs?: number;
  /** Ticks of timestamps in a second; 1000 of a gateway's downlink. Default 0: time follows from sequences. */
  timestampHz?: number;
}

export interface AudioReceiverOptions extends OpusReceiverOptions, SessionOptions {
  /** Whether PCM is taken too. Default false. */
  pcm?: boolean;
}

export interface ReceiverStats {
  opened: number;
  refused: number;
  /** Stretches recovered from redundancy, and made up. */
  recovered: number;
  concealed: number;
  undecodable: number;
  lost: number;
  late: number;
  duplicates: number;
  underruns: number;
  /** How long what plays has waited, what is aimed for, and the mean. */
  delayMs: number;
  targetMs: number;
  meanDelayMs: number;
  jitterMs: number;
}

export interface ResamplerOptions extends NonFiniteOption {
  channels?: number;
  /** Leave out the delay at the start, so that output and input begin together. Default false. */
  aligned?: boolean;
}

/** Frames of PCM to sealed packets. */
export interface AudioProcessor {
  /** Where `process` reads a frame. */
  readonly samples: Float32Array;
  /** Where the last packets are, one after the other. */
  readonly packets: Uint8Array;
  /** Where each of them ends. */
  readonly packetEnds: Uint32Array;
  /** Sends what stands in `samples`: how many packets there are. */
  process(): number;
  /** One frame, exactly `frameMs` long. `null` where there is nothing to send; of PCM, the first packet. */
  processAudio(frame: Samples): Uint8Array | null;
  /** Any part of a frame: the packets it completes. */
  push(part: Samples): Uint8Array[];
  /** Ends the stream: what is left, padded with silence. */
  flush(): Uint8Array[];
  /** To a rung by its place, 0 the best; one past the last mutes. */
  setPosition(position: number): void;
  getStats(): ProcessorStats;
  /** Whether it was open. */
  close(): boolean;
}

/** What receivers have in common. Their clock is the caller's, and must not go backwards. */
export interface Receiving {
  /** Where `receiveBytes` reads a packet. */
  readonly packet: Uint8Array;
  /** Where `pullSamples` writes. */
  readonly samples: Float32Array;
  /** Writes the next stretch to `samples`: how many, all channels together. To be called again once it has played. */
  pullSamples(nowMs: number): number;
  pull(nowMs: number): Float32Array;
  /** The sender said that it pauses: once what came so far has played there is silence, and no underrun. */
  pause(): void;
  getStats(): ReceiverStats;
  /** Writes the same to the start of `numbers`, in the order of `RECEIVER_STATS`. */
  writeStats(numbers: Float64Array): void;
  close(): boolean;
}

/** Sealed packets in any order to PCM. */
export interface AudioReceiver extends Receiving {
  /** Takes the packet in the first bytes of `packet`, where it is decrypted: whether it is new and in time. */
  receiveBytes(length: number, nowMs: number): boolean;
  receive(packet: Uint8Array, nowMs: number): boolean;
}

/**
 * Opus packets to PCM, as they come over a connection that keeps them safe: `sequence` goes up by one from each packet to
 * the next, and `timestamp` is in ticks of `timestampHz`, both modulo 2^32.
 */
export interface OpusReceiver extends Receiving {
  /** Takes the packet in the first bytes of `packet`: whether it is new and in time. */
  receiveBytes(length: number, sequence: number, timestamp: number, nowMs: number): boolean;
  receive(packet: Uint8Array, sequence: number, timestamp: number, nowMs: number): boolean;
}

export interface OpusEncoder {
  readonly samples: Float32Array;
  /** Where the last packet begins. */
  readonly packet: Uint8Array;
  /** Codes the first so many of `samples`, all channels together: the bytes of the packet. */
  encodeSamples(count: number): number;
  encode(frame: Samples): Uint8Array;
  /** Samples per channel by which coding delays. */
  lookahead(): number;
  reset(): void;
  close(): boolean;
}

export interface OpusDecoder {
  readonly packet: Uint8Array;
  readonly samples: Float32Array;
  /** Decodes the first bytes of `packet`: how many samples, all channels together. */
  decodeBytes(length: number): number;
  decode(packet: Uint8Array): Float32Array;
  /** The lost packet before this one, from what this one carries of it, else concealed. */
  decodeFec(packet: Uint8Array, ms: number): Float32Array;
  /** A lost packet, made up for. */
  conceal(ms: number): Float32Array;
  reset(): void;
  close(): boolean;
}

/** Between 8000, 12000, 16000, 22050, 24000, 32000, 44100 and 48000. */
export interface Resampler {
  /** Where `pushSamples` reads. */
  readonly samples: Float32Array;
  /** Where it writes. */
  readonly output: Float32Array;
  /** Resamples the first so many of `samples`, all channels together: how many it gives. */
  pushSamples(count: number): number;
  /** At most 5760 samples per channel. */
  push(part: Samples): Float32Array;
  /** What is still inside; then it is as new. */
  flush(): Float32Array;
  /** Samples per channel at the output rate. */
  delay(): number;
  close(): boolean;
}

/** The classes of one instance of the module. */
export interface Evenkeel {
  /** A key of 16 bytes or 32. */
  AudioProcessor: new (key: Uint8Array, options?: AudioProcessorOptions) => AudioProcessor;
  AudioReceiver: new (key: Uint8Array, options?: AudioReceiverOptions) => AudioReceiver;
  OpusReceiver: new (options?: OpusReceiverOptions) => OpusReceiver;
  OpusEncoder: new (rate: number, channels: number, options?: EncoderOptions & NonFiniteOption) => OpusEncoder;
  OpusDecoder: new (rate: number, channels: number) => OpusDecoder;
  Resampler: new (from: number, to: number, options?: ResamplerOptions) => Resampler;
  /** All objects of this instance live here. */
  memory: WebAssembly.Memory;
}

export interface LoadOptions {
  /** Which module. Default the one with SIMD where that is there. */
  simd?: boolean;
}

/** The names of what receivers count, in the order of `writeStats`. */
export const RECEIVER_STATS: readonly (keyof ReceiverStats)[];
/** Whether this machine has WebAssembly's SIMD. */
export function hasSimd(): boolean;
/** Where the module lies beside this file. */
export function moduleUrl(options?: LoadOptions): URL;
/** Loads the module and instantiates it; each time anew. */
export function load(options?: LoadOptions): Promise<Evenkeel>;
/** The classes of a new instance of a module, or of the bytes of one. Works in an AudioWorklet. */
export function instantiate(source: WebAssembly.Module | BufferSource): Evenkeel;
