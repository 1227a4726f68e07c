// FallbackAudioProcessor, AdaptiveAudioProcessor, AudioMetrics, PerformanceMonitor.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdaptiveAudioProcessor, AudioMetrics, EvenkeelError, FallbackAudioProcessor, PerformanceMonitor } from 'evenkeel';
import { KEY, frame, header, refuses } from './support.mjs';

const PCM = { pcm: true, clear: true, allowEmergency: true, outputRate: 24_000 };

test('a frame the encoder fails at goes out on the next rung that carries it', () => {
  const processor = new FallbackAudioProcessor(KEY, PCM);
  const told = [];
  processor.on('fallback', (frames) => told.push(frames));
  processor.rehearseFailure(10);
  const packet = processor.processAudio(frame(), header(1));
  assert.equal(packet[1] & 0x40, 0x40, 'PCM');
  assert.equal(processor.open(packet).length, 480);
  processor.rehearseFailure(0);
  assert.equal(processor.processAudio(frame(1), header(2))[1] & 0x60, 0, 'Opus again');
  assert.deepEqual(told, [1]);
  assert.equal(processor.mode, 'full');
});

test('where no rung carries it there is nothing to send, and that is told', () => {
  const processor = new FallbackAudioProcessor(KEY);
  const told = [];
  processor.on('mute', (frames) => told.push(frames));
  processor.rehearseFailure(10);
  assert.equal(processor.processAudio(frame(), header()), null);
  assert.deepEqual(told, [1]);
});

test('each mode does what it says, and its change is an event', () => {
  const processor = new FallbackAudioProcessor(KEY, PCM);
  const changes = [];
  let emergencies = 0;
  processor.on('modeChange', ({ from, to, reason }) => changes.push(`${from} ${to} ${reason}`));
  processor.on('emergency', () => emergencies++);
  const flags = ['full', 'medium', 'minimal', 'emergency'].map((mode, i) => {
    processor.setMode(mode);
    const packet = processor.processAudio(frame(i), header(i + 1));
    assert.equal(processor.mode, mode);
    assert.equal(processor.open(packet).length, 480);
    return packet[1];
  });
  processor.setMode('muted');
  assert.equal(processor.processAudio(frame(), header(9)), null);
  processor.setMode('full/3');
  assert.deepEqual(flags, [0, 0, 0x40, 0x60]);
  assert.equal(emergencies, 1);
  assert.deepEqual(changes, [
    'full/5 medium asked',
    'medium minimal asked',
    'minimal emergency asked',
    'emergency muted asked',
    'muted full/3 asked',
  ]);
  refuses(() => processor.setMode('loud'), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
  refuses(() => processor.setMode(3), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  refuses(() => new FallbackAudioProcessor(KEY, null), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
});

test('rungs that the far end did not declare are not there', () => {
  assert.deepEqual(new FallbackAudioProcessor(KEY).rungs, ['full/5', 'full/3', 'full/0', 'medium']);
  const declared = { pcm: true, clear: true, outputRate: 24_000 };
  assert.equal(new FallbackAudioProcessor(KEY, declared).rungs.at(-1), 'minimal', 'emergency is not allowed');
  const processor = new FallbackAudioProcessor(KEY, PCM);
  processor.setMode('emergency');
  const inClear = processor.processAudio(frame(), header());
  refuses(() => new FallbackAudioProcessor(KEY).open(inClear), Error, 'ERR_EVENKEEL_PACKET', EvenkeelError);
});

test('an adaptive one goes down when frames are slow and up when there is room', () => {
  const processor = new AdaptiveAudioProcessor(KEY, { thresholds: { trialMs: 100, upIntervalMs: 100 } });
  const changes = [];
  processor.on('modeChange', ({ to, reason }) => changes.push(`${to} ${reason}`));
  processor.observe(16, 1000);
  assert.equal(processor.rung, 'full/3');
  for (let ms = 1020; ms < 1400; ms += 20) processor.observe(1, ms);
  assert.deepEqual(changes, ['full/3 slow', 'full/5 room']);
  refuses(() => processor.setMode('full'), Error, 'ERR_EVENKEEL_UNSUPPORTED', EvenkeelError);
  refuses(() => processor.observe(NaN), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
  refuses(() => processor.observe('1'), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  const patient = new AdaptiveAudioProcessor(KEY, { thresholds: { downFrameMs: 50 } });
  patient.observe(16, 1000);
  assert.equal(patient.rung, 'full/5');
});

test('metrics sum up any number of frames', () => {
  const metrics = new AudioMetrics();
  assert.equal(metrics.getStats().frames, 0);
  for (let i = 1; i <= 200; i++) metrics.recordFrame(i / 10);
  const { frames, min, max, mean, p50, p99, recentMean, recentMax } = metrics.getStats();
  assert.deepEqual([frames, min, max, recentMax], [200, 0.1, 20, 20]);
  assert.ok(Math.abs(mean - 10.05) < 1e-5 && Math.abs(recentMean - 15.05) < 1e-5);
  assert.ok(p50 >= 10 && p50 < 10.7 && p99 >= 19.8 && p99 <= 20);
  metrics.reset();
  assert.equal(metrics.getStats().frames, 0);
  for (const bad of [NaN, -1, Infinity]) {
    refuses(() => metrics.recordFrame(bad), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
  }
  refuses(() => metrics.recordFrame('1'), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
});

test('a monitor tells slow frames, and what the process uses', () => {
  const monitor = new PerformanceMonitor({ limitMs: 15 });
  const slow = [];
  monitor.on('slow', ({ ms }) => slow.push(ms));
  [1, 16, 15].forEach((ms) => monitor.recordFrame(ms));
  assert.equal(monitor.measure(() => 'done'), 'done');
  const stats = monitor.getStats();
  assert.deepEqual([stats.frames, stats.slow, slow[0]], [4, slow.length, 16]);
  assert.ok(stats.rssMb > 1 && stats.cores >= 0);
  refuses(() => monitor.recordFrame(null), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  refuses(() => monitor.measure(3), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  refuses(() => new PerformanceMonitor({ limitMs: NaN }), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
});
