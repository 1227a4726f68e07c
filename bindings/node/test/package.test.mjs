// The package as such: both ways to load it, its types, its examples.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import * as imported from 'evenkeel';

const require = createRequire(import.meta.url);

test('require and import give the same classes', () => {
  const required = require('evenkeel');
  for (const name of Object.keys(required)) assert.equal(imported[name], required[name], name);
  assert.equal(imported.default, required);
});

test('every class and method is declared, and nothing else', () => {
  const types = readFileSync(require.resolve('evenkeel/package.json').replace('package.json', 'index.d.ts'), 'utf8');
  const declared = [...types.matchAll(/^export class (\w+)[^{]*\{([^]*?)^\}/gm)];
  assert.deepEqual(declared.map(([, name]) => name).sort(), Object.keys(require('evenkeel')).sort());
  for (const [, name, body] of declared) {
    const members = Object.getOwnPropertyNames(imported[name].prototype).concat(
      Object.getOwnPropertyNames(Object.getPrototypeOf(imported[name].prototype)),
    );
    for (const [, member] of body.matchAll(/^ {2}(?!static|readonly|private|constructor|on\b|once\b)(\w+)\(/gm)) {
      assert.ok(members.includes(member), `${name}.${member} is declared`);
    }
    for (const member of Object.getOwnPropertyNames(imported[name].prototype)) {
      if (member !== 'constructor') assert.match(body, new RegExp(`\\b${member}\\b`), `${name}.${member} is there`);
    }
  }
});

test('it depends on nothing', () => {
  const { dependencies, optionalDependencies, scripts } = require('evenkeel/package.json');
  assert.deepEqual([dependencies, optionalDependencies, scripts], [undefined, undefined, undefined]);
});
