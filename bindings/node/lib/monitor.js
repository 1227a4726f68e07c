'use strict';
// What frames take, and what the process uses meanwhile.
const { EventEmitter } = require('node:events');
const { native } = require('./native.js');
const { numberOption, typeError } = require('./error.js');

/**
 * Events: `slow` ({ ms, limitMs }) for a frame over `limitMs`.
 */
class PerformanceMonitor extends EventEmitter {
  #metrics = new native.AudioMetrics();
  #limitMs;
  #slow = 0;
  #began = performance.now();
  #cpu = process.cpuUsage();

  constructor(options = {}) {
    super();
    if (options === null || typeof options !== 'object') throw typeError('options must be an object');
    this.#limitMs = numberOption(options.limitMs, 'limitMs', 15, 0, 1e9);
  }

  /** Records what a frame took, in milliseconds. */
  recordFrame(ms) {
    this.#metrics.recordFrame(ms);
    if (ms > this.#limitMs) {
      this.#slow++;
      this.emit('slow', { ms, limitMs: this.#limitMs });
    }
  }

  /** Calls a function, and records what it took. */
  measure(work) {
    if (typeof work !== 'function') throw typeError('work must be a function');
    const began = performance.now();
    try {
      return work();
    } finally {
      this.recordFrame(performance.now() - began);
    }
  }

  /** Times in milliseconds; `cores` is CPU time of the whole process over time since construction or `reset`. */
  getStats() {
    const elapsed = performance.now() - this.#began;
    const { user, system } = process.cpuUsage(this.#cpu);
    const rssMb = process.memoryUsage.rss() / 1e6;
    const cores = elapsed > 0 ? (user + system) / 1e3 / elapsed : 0;
    return { ...this.#metrics.getStats(), slow: this.#slow, seconds: elapsed / 1e3, cores, rssMb };
  }

  reset() {
    this.#metrics.reset();
    this.#slow = 0;
    this.#began = performance.now();
    this.#cpu = process.cpuUsage();
  }
}

module.exports = { PerformanceMonitor };
