// The package as such: its types, its example.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import * as imported from 'evenkeel-wasm';
import { MODULES } from './support.mjs';

const manifest = createRequire(import.meta.url).resolve('evenkeel-wasm/package.json');

test('everything there is is declared, and nothing else', () => {
  const types = readFileSync(manifest.replace('package.json', 'index.d.ts'), 'utf8');
  const exported = [...types.matchAll(/^export (?:function|class|const) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(exported.sort(), Object.keys(imported).sort());
  const interfaces = [...types.matchAll(/^export interface (\w+)(?: extends (\w+))?[^{]*\{([^]*?)^\}/gm)];
  const declared = (name) => {
    const found = interfaces.find(([, other]) => other === name);
    if (!found) return [];
    return [...found[3].matchAll(/^ {2}(?:readonly )?(\w+)[(:]/gm)].map(([, member]) => member).concat(declared(found[2]));
  };
  const own = (prototype) =>
    prototype === Object.prototype ? [] : Object.getOwnPropertyNames(prototype).concat(own(Object.getPrototypeOf(prototype)));
  for (const [name, Class] of Object.entries(MODULES.simd).filter(([, value]) => typeof value === 'function')) {
    const members = own(Class.prototype).filter((member) => member !== 'constructor' && !member.startsWith('_'));
    assert.deepEqual(declared(name).sort(), members.sort(), name);
  }
});

test('the example does what it says', () => {
  const said = execFileSync(process.execPath, [join(import.meta.dirname, '../example.mjs')], { encoding: 'utf8' });
  assert.match(said, /^45 packets came, [45] did not; \d+ samples heard/);
});

test('a module is less than 450 KB to load', () => {
  for (const simd of [true, false]) {
    const size = gzipSync(readFileSync(imported.moduleUrl({ simd })), { level: 9 }).length;
    assert.ok(size < 450_000, `${size} bytes`);
  }
});

test('it depends on nothing', () => {
  const { dependencies, optionalDependencies, scripts } = JSON.parse(readFileSync(manifest, 'utf8'));
  assert.deepEqual([dependencies, optionalDependencies, scripts], [undefined, undefined, undefined]);
});
