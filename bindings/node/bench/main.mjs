// What the package costs beside a gateway's audio path in Node.js that does the same work, and beside the same calls of
// Rust: by turns, each contender a process of its own. `make node-bench` runs it; `--help` names the settings.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { markdown, rows } from './report.mjs';

const HELP = `Usage: tools/node bench [--only frames,quality,streams,at-once] [--rounds 3] [--repeats 15] [--frames 1000]
                        [--streams 100] [--seconds 30] [--json] [--check]

--only     the cases to measure; all of them by default
--rounds   runs of the streams, for each contender by turns; the table has medians and, in brackets, least and most
--repeats  the same for frames, which take less than a second each
--json     every figure of every run, instead of the table
--check    fail if a limit is missed`;

const CASES = ['frames', 'quality', 'streams', 'at-once'];

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: CASES.join() },
    rounds: { type: 'string', default: '3' },
    repeats: { type: 'string', default: '15' },
    frames: { type: 'string', default: '1000' },
    streams: { type: 'string', default: '100' },
    seconds: { type: 'string', default: '30' },
    json: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}

// `tools/node` says where things are.
const { EVENKEEL_ROOT: root, EVENKEEL_RUST: rust, EVENKEEL_PYTHON: python } = process.env;
const only = values.only.split(',');
const unknown = only.filter((name) => !CASES.includes(name));
if (unknown.length) fail(`there is no case ${unknown.join()}; there are ${CASES.join()}`);
const count = (name, most) => {
  const value = Number(values[name]);
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  return fail(`--${name} must be a whole number from 1 to ${most}, not ${values[name]}`);
};
const [rounds, repeats, frames] = [count('rounds', 100), count('repeats', 1000), count('frames', 100_000)];
const [streams, seconds] = [count('streams', 10_000), count('seconds', 3600)];

// The peer's own material.
const { voice } = await import(pathToFileURL(join(root, 'bench/peers/node/voice.mjs')));
const folder = mkdtempSync(join(tmpdir(), 'evenkeel-bench-'));
try {
  const results = measure();
  if (values.json) console.log(JSON.stringify(results, null, 2));
  else console.log(markdown(results));
  if (values.check) {
    const missed = rows(results).filter(({ isMet }) => isMet === false);
    for (const { name } of missed) console.error(`tools/node bench: missed: ${name}`);
    process.exitCode = missed.length ? 1 : 0;
  }
} finally {
  rmSync(folder, { recursive: true });
}

function measure() {
  const results = { settings: { rounds, repeats, frames, streams, seconds }, loadBefore: loadavg()[0] };
  const material = join(folder, 'voice.f32');
  writeFileSync(material, new Uint8Array(voice().buffer));
  if (only.includes('frames')) results.frames = frameCase(material);
  if (only.includes('quality')) results.quality = qualityCase();
  if (only.includes('at-once')) {
    results.atOnce = byTurns('10 frames at once', repeats, {
      peer: () => node('at-once.mjs', ['--path', 'peer', '--material', material]),
      evenkeel: () => node('at-once.mjs', ['--path', 'package', '--material', material]),
    });
  }
  if (only.includes('streams')) {
    const size = ['--streams', streams, '--seconds', seconds];
    results.streams = byTurns(`${streams} streams for ${seconds} s`, rounds, {
      peer: () => json(process.execPath, [join(root, 'bench/peers/node/run.mjs'), ...size, '--complexity', 5, '--json']),
      evenkeel: () => node('streams.mjs', [...size, '--material', material]),
    });
  }
  return results;
}

/** One stream, frame by frame, by way of the peer, the package, and the same calls in Rust. */
function frameCase(material) {
  const packets = (name) => join(folder, `${name}.packets`);
  const common = (name) => ['--material', material, '--frames', frames, '--packets', packets(name)];
  const runs = byTurns(`${frames} frames`, repeats, {
    peer: () => node('frames.mjs', ['--path', 'peer', ...common('peer')]),
    evenkeel: () => node('frames.mjs', ['--path', 'package', ...common('package')]),
    rust: () => json(rust, common('rust')),
  });
  if (!readFileSync(packets('package')).equals(readFileSync(packets('rust')))) {
    throw new Error('the package and the program in Rust made different packets of the same frames');
  }
  return runs;
}

/** PESQ and bit rate of what listeners hear; the package is asked for as much as the peer spends. */
function qualityCase() {
  progress('PESQ of every recording by way of both');
  const script = join(root, 'quality/node_package.py');
  return json(python, [script, '--listen', join(import.meta.dirname, 'listen.mjs'), '--json'], { cwd: root });
}

/** Runs all contenders, one after the other, that many times. */
function byTurns(what, times, contenders) {
  const names = Object.keys(contenders);
  const runs = Object.fromEntries(names.map((name) => [name, []]));
  for (let turn = 0; turn < times; turn++) {
    for (const name of names) {
      progress(`${what}: ${name}, ${turn + 1} of ${times}`);
      runs[name].push(contenders[name]());
    }
  }
  return runs;
}

function node(script, args) {
  return json(process.execPath, [join(import.meta.dirname, script), ...args]);
}

function json(program, args, options) {
  const stdio = ['ignore', 'pipe', 'inherit'];
  return JSON.parse(execFileSync(program, args.map(String), { stdio, maxBuffer: 2 ** 28, ...options }));
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else console.error(text);
}

function fail(message) {
  console.error(`tools/node bench: ${message}`);
  process.exit(2);
}
