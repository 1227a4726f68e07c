// Puts binaries into the packages of their platforms, drops those without one, and makes the rest optional dependencies
// of the main package. Usage: node tools/node-platforms.mjs SPLIT PREBUILDS, as tools/node calls it.
import { copyFileSync, existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [split, prebuilds] = process.argv.slice(2);
const read = (folder) => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
const write = (folder, manifest) => writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest, null, 2) + '\n');

const platforms = join(split, 'platforms');
const optionalDependencies = {};
for (const name of readdirSync(platforms)) {
  const folder = join(platforms, name);
  const manifest = read(folder);
  const binary = join(prebuilds, manifest.main);
  if (!existsSync(binary)) {
    rmSync(folder, { recursive: true });
    continue;
  }
  copyFileSync(binary, join(folder, manifest.main));
  optionalDependencies[manifest.name] = manifest.version;
}
if (Object.keys(optionalDependencies).length === 0) throw new Error(`no binary in ${prebuilds}: tools/node build makes one`);

const main = join(split, 'main');
const { devDependencies, overrides, ...manifest } = read(main);
write(main, { ...manifest, files: manifest.files.filter((entry) => !entry.startsWith('prebuilds')), optionalDependencies });
