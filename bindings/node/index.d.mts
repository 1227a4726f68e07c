// The types, for `import`; all of them are in `index.d.ts`.
export * from './index.js';
import evenkeel from './index.js';
export default evenkeel;
