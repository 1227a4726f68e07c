// Wrong use: each of these must be an error, or the comment before it is one.
import * as evenkeel from 'evenkeel-wasm';

const key = new Uint8Array(32);
const { AudioProcessor, AudioReceiver, OpusEncoder, OpusReceiver, Resampler } = await evenkeel.load();

// @ts-expect-error: it has to be waited for
evenkeel.load().AudioProcessor;
// @ts-expect-error: classes are those of an instance
new evenkeel.AudioProcessor(key);
// @ts-expect-error: yes or no
evenkeel.moduleUrl({ simd: 'yes' });
// @ts-expect-error: which module?
evenkeel.instantiate();

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
processor.processAudio([0, 0]);
// @ts-expect-error: of 32-bit floats or 16-bit integers
processor.processAudio(new Float64Array(960));
// @ts-expect-error: there may be nothing to send
processor.processAudio(new Float32Array(960)).length;
// @ts-expect-error: it is read only
processor.samples = new Float32Array(960);

// @ts-expect-error: when is now?
new AudioReceiver(key).receive(new Uint8Array(20));
// @ts-expect-error: of an opened packet, sequence and timestamp are needed
new OpusReceiver().receive(new Uint8Array(20), 0);
// @ts-expect-error: floats of 64 bits
new OpusReceiver().writeStats(new Float32Array(13));
// @ts-expect-error: no session without seals
new OpusReceiver({ encryption: 'aes-128-ctr' });
// @ts-expect-error: how many channels?
new OpusEncoder(48_000);
// @ts-expect-error: whether it is aligned is yes or no
new Resampler(48_000, 16_000, { aligned: 1 });
// @ts-expect-error: it is read only
evenkeel.RECEIVER_STATS[0] = 'lost';
