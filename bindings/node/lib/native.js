'use strict';
const { EvenkeelError } = require('./error.js');

/** What this machine's binary is called; Linux has two C libraries, of which only one can load it. */
function names() {
  const { platform, arch } = process;
  const suffixes = { linux: ['-gnu', '-musl'], win32: ['-msvc'] }[platform] ?? [''];
  return suffixes.map((suffix) => `evenkeel.${platform}-${arch}${suffix}.node`);
}

function load() {
  const reasons = [];
  for (const name of names()) {
    try {
      return require(`../prebuilds/${name}`);
    } catch (error) {
      reasons.push(`${name}: ${error.message.split('\n')[0]}`);
    }
  }
  const message = `evenkeel has no binary for this platform (${reasons.join('; ')}); its README says how to build one`;
  throw new EvenkeelError(message, 'ERR_EVENKEEL_PLATFORM');
}

module.exports = { native: load() };
