'use strict';
// The package, for `require`; `index.mjs` is the same for `import`.
const { native } = require('./lib/native.js');
const { EvenkeelError } = require('./lib/error.js');
const { Engine, EngineStream, Packet } = require('./lib/engine.js');
const { FallbackAudioProcessor, AdaptiveAudioProcessor } = require('./lib/ladder.js');
const { PerformanceMonitor } = require('./lib/monitor.js');

// Classes of JavaScript, which unlike those of native code cannot be called without `new`.
module.exports = {
  AudioProcessor: class AudioProcessor extends native.AudioProcessor {},
  FallbackAudioProcessor,
  AdaptiveAudioProcessor,
  OpusEncoder: class OpusEncoder extends native.OpusEncoder {},
  OpusDecoder: class OpusDecoder extends native.OpusDecoder {},
  Resampler: class Resampler extends native.Resampler {},
  StreamCipher: class StreamCipher extends native.StreamCipher {},
  AudioMetrics: class AudioMetrics extends native.AudioMetrics {},
  PerformanceMonitor,
  Engine,
  EngineStream,
  Packet,
  EvenkeelError,
};
