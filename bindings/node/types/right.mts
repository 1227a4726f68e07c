// Right use, by `import`: what the README and the examples do, with the types that come of it.
import { createSocket } from 'node:dgram';
import { pipeline } from 'node:stream/promises';
import evenkeel, {
  AdaptiveAudioProcessor,
  AudioMetrics,
  AudioProcessor,
  Engine,
  EvenkeelError,
  FallbackAudioProcessor,
  OpusDecoder,
  OpusEncoder,
  Packet,
  PerformanceMonitor,
  Resampler,
  StreamCipher,
  type AudioProcessorOptions,
  type EngineStats,
  type FrameStats,
  type Mode,
  type Samples,
  type StreamOptions,
} from 'evenkeel';

/** Holds `value` to be of the type `T`, and not of a wider one. */
function is<T>(value: [T] extends [never] ? never : T): T {
  return value;
}

const key = Buffer.alloc(32);
const header = new Uint8Array(16);
const options: AudioProcessorOptions = { codedRate: 24_000, output: 'i16', thresholds: { downMeanMs: 12 } };
const processor = new AudioProcessor(key, options);
const packet = processor.processAudio(new Float32Array(960), header);
if (packet !== null) is<Samples>(processor.open(packet));
is<Buffer | null>(packet);
is<FrameStats>(processor.getStats().processing);

const fallback = new FallbackAudioProcessor(key);
fallback.on('modeChange', ({ from, to, reason }) => is<string>(`${from} ${to} ${reason === 'slow'}`));
fallback.on('mute', (frames) => is<number>(frames)).setMode('minimal');
is<Mode>(fallback.mode);
new AdaptiveAudioProcessor(key).observe(3, performance.now());

const encoder = new OpusEncoder(48_000, 2, { application: 'audio' });
encoder.applyEncoderCTL(4010, 5);
is<Buffer>(new OpusDecoder(48_000, 2).decode(encoder.encode(Buffer.alloc(3840))));
is<Float32Array>(new Resampler(48_000, 16_000).push(new Float32Array(480)));
is<Int16Array>(new Resampler(48_000, 16_000).push(new Int16Array(480)));
new StreamCipher(key).processInPlace(header, new Uint8Array(100));
const metrics = new AudioMetrics();
metrics.recordFrame(1.5);
is<number>(new PerformanceMonitor({ limitMs: 15 }).measure(() => 5));

const socket = createSocket('udp4');
const engine = new Engine({ lanes: 2 });
const streamOptions: StreamOptions = { key, onPacket: ({ data }) => socket.send(data, 5000, 'localhost') };
const stream = engine.open(streamOptions);
is<number>(stream.write(new Float32Array(960)));
is<Packet[]>(await stream.process(new Int16Array(960), 100));
for await (const { sequence, data } of stream) is<string>(`${sequence} ${data.length}`);
await pipeline(process.stdin, stream.transform(), process.stdout);
stream.onPacket = undefined;
is<EngineStats>(Engine.attach(engine.token).getStats());

try {
  engine.close();
} catch (error) {
  if (error instanceof EvenkeelError) is<string>(error.code);
}
is<typeof AudioProcessor>(evenkeel.AudioProcessor);
