'use strict';
const { EvenkeelError } = require('./error.js');

/** What binaries of this machine are called; Linux has two C libraries, of which only one can load it. */
function platforms() {
  const { platform, arch } = process;
  const suffixes = { linux: ['-gnu', '-musl'], win32: ['-msvc'] }[platform] ?? [''];
  return suffixes.map((suffix) => `${platform}-${arch}${suffix}`);
}

function load() {
  const reasons = [];
  for (const name of platforms()) {
    // In this package, or in one that has it alone, whichever was installed.
    for (const path of [`../prebuilds/evenkeel.${name}.node`, `evenkeel-${name}`]) {
      try {
        return require(path);
      } catch (error) {
        reasons.push(`${path}: ${error.message.split('\n')[0]}`);
      }
    }
  }
  const message = `evenkeel has no binary for this platform (${reasons.join('; ')}); its README says how to build one`;
  throw new EvenkeelError(message, 'ERR_EVENKEEL_PLATFORM');
}

module.exports = { native: load() };
