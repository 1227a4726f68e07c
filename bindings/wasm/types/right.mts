// Right use: what the README, the example and an audio worklet do, with the types that come of it.
import {
  EvenkeelError,
  RECEIVER_STATS,
  hasSimd,
  instantiate,
  load,
  moduleUrl,
  type AudioProcessor,
  type AudioProcessorOptions,
  type AudioReceiver,
  type Evenkeel,
  type OpusReceiver,
  type ReceiverStats,
  type Resampler,
  type SessionOptions,
} from 'evenkeel-wasm';

/** Holds `value` to be of the type `T`, and not of a wider one. */
function is<T>(value: [T] extends [never] ? never : T): T {
  return value;
}

const key = new Uint8Array(32);
const session: SessionOptions = { encryption: 'aes-256-gcm', connectionId: 7, sessionId: 'call' };
const options: AudioProcessorOptions = { ...session, codedRate: 24_000, frameMs: 60, nonFinite: 'silence' };

is<Evenkeel>(await load());
const evenkeel = await load({ simd: hasSimd() });
const processor: AudioProcessor = new evenkeel.AudioProcessor(key, options);
const receiver: AudioReceiver = new evenkeel.AudioReceiver(key, { ...session, maxDelayMs: 300 });
const packet = processor.processAudio(new Float32Array(960));
is<Uint8Array | null>(packet);
if (packet !== null) is<boolean>(receiver.receive(packet, performance.now()));
is<Float32Array>(receiver.pull(performance.now()));
is<Uint8Array[]>(processor.push(new Int16Array(100)).concat(processor.flush()));
processor.setPosition(1);
is<number>(processor.getStats().payloadBytes);

// In place.
processor.samples.set(new Float32Array(960));
const [end = 0] = processor.process() > 0 ? processor.packetEnds : [];
receiver.packet.set(processor.packets.subarray(0, end));
is<boolean>(receiver.receiveBytes(end, 20));
is<Float32Array>(receiver.samples.subarray(0, receiver.pullSamples(20)));

// As a worklet has it.
const module = await WebAssembly.compileStreaming(fetch(moduleUrl({ simd: false })));
const { OpusEncoder, OpusReceiver: Opened, OpusDecoder, Resampler: Other, memory } = instantiate(module);
is<WebAssembly.Memory>(memory);
const encoder = new OpusEncoder(24_000, 1, { application: 'voip', fec: true, expectedLoss: 20, nonFinite: 'throw' });
const opened: OpusReceiver = new Opened({ timestampHz: 1000 });
is<boolean>(opened.receive(encoder.encode(new Float32Array(480)), 0, 0, 0));
opened.pause();
const numbers = new Float64Array(RECEIVER_STATS.length);
opened.writeStats(numbers);
is<keyof ReceiverStats | undefined>(RECEIVER_STATS[0]);
const decoder = new OpusDecoder(24_000, 1);
is<Float32Array>(decoder.conceal(20));
is<Float32Array>(decoder.decodeFec(new Uint8Array(10), 20));
const resampler: Resampler = new Other(48_000, 24_000, { channels: 2, aligned: true });
is<Float32Array>(resampler.output.subarray(0, resampler.pushSamples(960)));
is<boolean>(resampler.close());

try {
  instantiate(await (await fetch(moduleUrl())).arrayBuffer());
} catch (error) {
  if (error instanceof EvenkeelError) is<string>(error.code);
}
