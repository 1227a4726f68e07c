// What the README shows runs as it stands: each block of code is a program in a project that has nothing but the package.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { AudioProcessor } from 'evenkeel';
import { KEY, until } from './support.mjs';

const require = createRequire(import.meta.url);
const readme = readFileSync(require.resolve('evenkeel/package.json').replace('package.json', 'README.md'), 'utf8');
const blocks = [...readme.matchAll(/^```js\n([^]*?)^```/gm)].map(([, code]) => code);

/** What the blocks take as given. */
const GIVEN = `
  globalThis.key = Buffer.from(process.env.KEY, 'hex');
  globalThis.header = Buffer.concat([Buffer.from([1]), Buffer.alloc(15)]);
  globalThis.samples = Float32Array.from({ length: 960 }, (_, i) => 0.3 * Math.sin(i / 20));
  globalThis.socket = require('node:dgram').createSocket('udp4').unref();
  globalThis.host = '127.0.0.1';
  globalThis.port = Number(process.env.PORT);
`;

test('there are blocks, and one of them shows how it was before', () => {
  assert.ok(blocks.length >= 4);
  assert.equal(blocks.filter(isBefore).length, 1);
});

for (const [i, code] of blocks.entries()) {
  // It is run by bench/peers, whose packages this project has not.
  if (isBefore(code)) continue;
  test(`block ${i + 1} of the README does what it says`, async (t) => {
    const folder = join(import.meta.dirname, '..', 'readme');
    mkdirSync(folder, { recursive: true });
    const [given, file] = [join(folder, 'given.cjs'), join(folder, `block-${i + 1}.${/^import /m.test(code) ? 'mjs' : 'cjs'}`)];
    writeFileSync(given, GIVEN);
    writeFileSync(file, code);

    const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
    t.after(() => socket.close());
    await once(socket, 'listening');
    const got = [];
    socket.on('message', (datagram) => got.push(datagram));
    const env = { ...process.env, KEY: KEY.toString('hex'), PORT: socket.address().port };
    const { error, stderr } = await new Promise((resolve) => {
      const args = ['--require', given, file];
      execFile(process.execPath, args, { env, timeout: 120_000 }, (error, stdout, stderr) => resolve({ error, stderr }));
    });
    assert.deepEqual([error, stderr], [null, '']);
    await until('a datagram', () => got.length > 0);
    assert.equal(new AudioProcessor(KEY).open(got[0]).length, 960);
  });
}

function isBefore(code) {
  return code.startsWith('// Before');
}
