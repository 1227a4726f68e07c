// The package, for `import`; all of it is in `index.js`.
import evenkeel from './index.js';

export const {
  AudioProcessor,
  FallbackAudioProcessor,
  AdaptiveAudioProcessor,
  OpusEncoder,
  OpusDecoder,
  Resampler,
  StreamCipher,
  AudioMetrics,
  PerformanceMonitor,
  Engine,
  EngineStream,
  Packet,
  EvenkeelError,
} = evenkeel;
export default evenkeel;
