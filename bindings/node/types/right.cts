// Right use, by `require`.
import evenkeel = require('evenkeel');
import { Engine, type EngineStream } from 'evenkeel';

const processor: evenkeel.AudioProcessor = new evenkeel.AudioProcessor(Buffer.alloc(16));
const packet: Buffer | null = processor.processAudio(new Int16Array(960), Buffer.alloc(16));
const stream: EngineStream = new Engine().open({ key: Buffer.alloc(16), frameMs: 60 });
if (packet) stream.write(processor.open(packet));
