// Wrong use: each of these must be an error, or the comment before it is one.
import { AudioProcessor, Engine, EngineStream, FallbackAudioProcessor, OpusEncoder, Resampler, StreamCipher } from 'evenkeel';

const key = Buffer.alloc(32);

// @ts-expect-error: a key is needed
new AudioProcessor();
// @ts-expect-error: a key is no string
new AudioProcessor('0123456789abcdef');
// @ts-expect-error: there is no such application
new AudioProcessor(key, { application: 'radio' });
// @ts-expect-error: a number is no string
new AudioProcessor(key, { bitrate: '24000' });
// @ts-expect-error: there is no such option
new AudioProcessor(key, { bitRate: 24_000 });

const processor = new AudioProcessor(key);
// @ts-expect-error: samples are typed arrays
processor.processAudio([0, 0], key);
// @ts-expect-error: of 32-bit floats or 16-bit integers
processor.processAudio(new Float64Array(960), key);
// @ts-expect-error: a header is needed
processor.processAudio(new Float32Array(960));
// @ts-expect-error: there may be nothing to send
processor.processAudio(new Float32Array(960), key).length;
// @ts-expect-error: there is no such mode event
new FallbackAudioProcessor(key).on('modechange', () => {});
// @ts-expect-error: frames are a number
new FallbackAudioProcessor(key).on('mute', (frames: string) => frames);

// @ts-expect-error: how many channels?
new OpusEncoder(48_000);
// @ts-expect-error: by number only
new OpusEncoder(48_000, 1).applyEncoderCTL('complexity', 5);
// @ts-expect-error: integers come of integers
new Resampler(48_000, 16_000).push(new Int16Array(480)) satisfies Float32Array;
// @ts-expect-error: an IV is needed
new StreamCipher(key).process(Buffer.alloc(16));

const engine = new Engine();
// @ts-expect-error: a key is needed
engine.open({});
// @ts-expect-error: a packet is no string
engine.open({ key, onPacket: (packet: string) => packet });
// @ts-expect-error: streams are opened by an engine
new EngineStream();
// @ts-expect-error: it is read only
engine.token = 5;
// @ts-expect-error: a Promise is no packet
engine.open({ key }).process(new Float32Array(960)).data;
// @ts-expect-error: a token is a number
Engine.attach('1');
