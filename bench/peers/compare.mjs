#!/usr/bin/env node
// Runs `evenkeel load` and the Node.js peer by turns on the same workload; prints both side by side as Markdown.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    streams: { type: 'string', default: '25' },
    seconds: { type: 'string', default: '30' },
    rounds: { type: 'string', default: '3' },
    evenkeel: { type: 'string', default: process.env.EVENKEEL ?? 'evenkeel' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log('Usage: compare [--streams 25] [--seconds 30] [--rounds 3] [--evenkeel PROGRAM] [--json]');
  process.exit(0);
}

const peer = fileURLToPath(new URL('node/run.mjs', import.meta.url));
const size = ['--streams', values.streams, '--seconds', values.seconds, '--complexity', '5', '--json'];
const run = (program, args) => JSON.parse(execFileSync(program, args, { stdio: ['ignore', 'pipe', 'inherit'] }));

const rounds = Array.from({ length: Number(values.rounds) }, () => ({
  node: run(process.execPath, [peer, ...size]),
  evenkeel: run(values.evenkeel, ['load', ...size, '--profile', 'compat-256', '--lanes', '2']),
}));

// The peer's latency counts from when a frame was due, that of evenkeel from its push: the lateness of the push is
// added to it, percentile to percentile, which makes it look rather worse than it is.
const due = (key) => (report) => report.latency_ms[key] + report.source_late_ms[key];
const rows = [
  ['latency p50, ms', (r) => r.latency_ms.p50, due('p50')],
  ['latency p99, ms', (r) => r.latency_ms.p99, due('p99')],
  ['latency p99.9, ms', (r) => r.latency_ms.p999, due('p999')],
  ['latency max, ms', (r) => r.latency_ms.max, due('max')],
  ['over 50 ms late', (r) => r.late_50ms, (r) => r.late_50ms],
  ['cores', (r) => r.cores, (r) => r.cores],
  ['memory, MB', (r) => r.rss_mb, (r) => r.rss_mb],
].map(([name, ofNode, ofEvenkeel]) => {
  const [node, evenkeel] = [median(rounds.map((r) => ofNode(r.node))), median(rounds.map((r) => ofEvenkeel(r.evenkeel)))];
  return { name, node, evenkeel, ratio: node === 0 ? null : evenkeel / node };
});

if (values.json) console.log(JSON.stringify({ rows, rounds }, null, 2));
else print();

function print() {
  const figure = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(value < 10 ? 3 : 1));
  console.log(`${values.streams} streams, ${values.seconds} s, medians of ${values.rounds} runs each, by turns\n`);
  console.log('| | Node.js | evenkeel | evenkeel / Node.js |\n|---|---|---|---|');
  for (const { name, node, evenkeel, ratio } of rows) {
    console.log(`| ${name} | ${figure(node)} | ${figure(evenkeel)} | ${ratio === null ? '-' : ratio.toFixed(3)} |`);
  }
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
