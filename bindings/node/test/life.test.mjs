// What begins must end: processes, workers, garbage. Each case is a process of its own, which must end by itself, with the
// exit code and output it should have.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';

const PRELUDE = `
  import { AudioProcessor, Engine } from 'evenkeel';
  import { Worker } from 'node:worker_threads';
  const key = Buffer.alloc(32, 7);
  const frame = new Float32Array(960).fill(0.1);
  const own = (lanes = 2) => new Engine({ lanes, pin: false, realtime: false, admission: false });
  const calm = { key, pacing: 'immediate', lateLimitMs: 60000, limitMs: 60000 };
  const inWorker = (code, workerData) =>
    new Worker(\`(async () => {
      const { AudioProcessor, Engine } = await import('evenkeel');
      const { parentPort, workerData } = await import('node:worker_threads');
      const key = Buffer.alloc(32, 7), frame = new Float32Array(960).fill(0.1);
      const calm = { key, pacing: 'immediate', lateLimitMs: 60000, limitMs: 60000 };
      \${code}
    })()\`, { eval: true, workerData });
`;

/** Runs a program; resolves to what it said and how it ended. */
function run(program) {
  return new Promise((resolve) => {
    const args = ['--expose-gc', '--input-type=module', '--eval', PRELUDE + program];
    // Far more than any of them takes: one that hangs is killed.
    execFile(process.execPath, args, { timeout: 120_000 }, (error, stdout, stderr) => {
      resolve({ code: error ? (error.code ?? error.signal) : 0, stdout, stderr });
    });
  });
}

const cases = {
  'a process ends with engine and streams left open': `
    const stream = own().open({ ...calm, onPacket: () => console.log('packet') });
    stream.write(frame);`,
  'process.exit ends it amid packets': `
    const engine = own();
    const streams = Array.from({ length: 20 }, () => engine.open({ ...calm, onPacket: () => {} }));
    const timer = setInterval(() => streams.forEach((stream) => stream.write(frame)), 1);
    setTimeout(() => { console.log('packet'); process.exit(0); }, 200);`,
  'a worker ends, or is ended, with its engine open': `
    for (const how of ['itself', 'terminate']) {
      const worker = inWorker(\`
        const engine = new Engine({ lanes: 1, pin: false, realtime: false });
        const stream = engine.open({ ...calm, onPacket: () => {} });
        const timer = setInterval(() => stream.write(frame), 1);
        await stream.process(frame);
        parentPort.postMessage('runs');
        if ('\${how}' === 'itself') setTimeout(() => process.exit(0), 50);\`);
      await new Promise((resolve) => worker.once('message', resolve));
      if (how === 'terminate') await worker.terminate();
      else await new Promise((resolve) => worker.once('exit', resolve));
    }
    console.log('packet');`,
  'workers share an engine, which outlives the one that began it': `
    const engine = own(1);
    const stream = engine.open(calm);
    const code = \`
      const engine = Engine.attach(workerData);
      parentPort.postMessage('attached');
      await new Promise((resolve) => parentPort.once('message', resolve));
      const stream = engine.open(calm);
      const packets = [];
      for (let i = 0; i < 20; i++) packets.push(...await stream.process(frame));
      parentPort.postMessage(packets.length);
      engine.close();
      parentPort.close();\`;
    const workers = [1, 2].map(() => inWorker(code, engine.token));
    const next = (worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await Promise.all(workers.map(next));
    await stream.process(frame);
    engine.close();
    const counts = workers.map(next);
    workers.forEach((worker) => worker.postMessage('go'));
    if ((await Promise.all(counts)).join() === '20,20') console.log('packet');`,
  'two workers call one engine at once, while a third thread changes the samples and the engine closes': `
    const engine = own();
    const shared = new Float32Array(new SharedArrayBuffer(4 * 960));
    const code = \`
      const engine = Engine.attach(workerData.token);
      let packets = 0;
      try {
        for (let round = 0; ; round++) {
          const streams = Array.from({ length: 10 }, () => engine.open(calm));
          const answers = await Promise.all(streams.map((stream) => stream.process(workerData.shared)));
          packets += answers.flat().length;
          engine.getStats();
          streams.forEach((stream) => stream.close());
          if (round === 10) parentPort.postMessage('busy');
        }
      } catch (error) {
        parentPort.postMessage(error.message);
      }\`;
    const workers = [1, 2].map(() => inWorker(code, { token: engine.token, shared }));
    const busy = Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
    const timer = setInterval(() => shared.fill(Math.random() - 0.5), 1);
    const said = await busy;
    clearInterval(timer);
    // Each of them holds the engine still: closing it here takes it from nobody.
    engine.close();
    await Promise.all(workers.map((worker) => worker.terminate()));
    if (said.join() === 'busy,busy') console.log('packet'); else console.log(said);`,
  'thousands of frames leave no memory behind': `
    const processor = new AudioProcessor(key);
    const stream = own(1).open(calm);
    const header = Buffer.alloc(16, 1);
    const round = async (times) => {
      for (let i = 0; i < times; i++) {
        processor.open(processor.processAudio(frame, header));
        try { processor.processAudio(frame.subarray(1), header); } catch {}
        if (i % 10 === 0) await stream.process(frame);
      }
      for (let i = 0; i < 3; i++) { globalThis.gc(); await new Promise((resolve) => setTimeout(resolve, 10)); }
      const { external, arrayBuffers, heapUsed, rss } = process.memoryUsage();
      return { held: external + arrayBuffers + heapUsed, rss };
    };
    const before = await round(2000);
    const after = await round(6000);
    // A frame has 3840 bytes: were one kept in a hundred calls, that would be seen.
    const [held, rss] = [after.held - before.held, after.rss - before.rss];
    if (held < 200000 && rss < 20e6) console.log('packet'); else console.log(held, rss);`,
  'a process under way is answered before it exits, one that is closed is told': `
    const engine = own(1);
    const [kept, closed] = [engine.open(calm), engine.open(calm)];
    const told = closed.process(frame).catch((error) => error.code);
    closed.close();
    const packets = await kept.process(frame);
    if (packets.length === 1 && await told === 'ERR_EVENKEEL_CLOSED') console.log('packet');`,
  'an object of one thread is none of another, which says so': `
    const worker = inWorker(\`
      try { workerData.processAudio(frame, Buffer.alloc(16)); } catch (error) { parentPort.postMessage(error.name); }\`,
      { ...new AudioProcessor(key) });
    worker.once('message', (name) => { if (name === 'TypeError') console.log('packet'); });`,
  'a callback that throws is an uncaught exception, and others get their packets': `
    let caught = 0, packets = 0;
    process.on('uncaughtException', (error) => { if (error.message === 'mine') caught++; });
    const engine = own(1);
    const bad = engine.open({ ...calm, onPacket: () => { throw new Error('mine'); } });
    const good = engine.open({ ...calm, onPacket: () => packets++ });
    const timer = setInterval(() => {
      if (caught > 5 && packets > 5) { clearInterval(timer); console.log('packet'); engine.close(); return; }
      bad.write(frame); good.write(frame);
    }, 5);`,
  'a callback may close its stream, and its engine': `
    const engine = own(1);
    const stream = engine.open({ ...calm, onPacket: () => { stream.close(); engine.close(); console.log('packet'); } });
    stream.write(frame); stream.write(frame);`,
  'streams and processors nobody holds any more are collected': `
    const engine = own(1);
    for (let round = 0; round < 30; round++) {
      for (let i = 0; i < 100; i++) { engine.open(calm); new AudioProcessor(key); }
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const end = Date.now() + 60000;
    while (engine.getStats().streams > 0 && Date.now() < end) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    if (engine.getStats().streams === 0 && engine.getStats().opened === 3000) console.log('packet');`,
  'an engine nobody holds any more ends its lanes': `
    import { readdirSync, readFileSync } from 'node:fs';
    const lanes = () => process.platform !== 'linux' ? 0 : readdirSync('/proc/self/task').filter((task) => {
      try { return readFileSync('/proc/self/task/' + task + '/comm', 'utf8').startsWith('lane-'); } catch { return false; }
    }).length;
    (() => { for (let i = 0; i < 5; i++) own(1).open(calm); })();
    const before = lanes();
    const end = Date.now() + 60000;
    while (lanes() > 0 && Date.now() < end) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    if (before === 5 && lanes() === 0) console.log('packet');`,
  'a process that waits for a packet stays alive until it has come': `
    for await (const packet of (() => { const stream = own(1).open(calm); stream.write(frame); return stream; })()) {
      console.log('packet');
      break;
    }`,
};

for (const [name, program] of Object.entries(cases)) {
  test(name, async () => {
    const { code, stdout, stderr } = await run(program);
    assert.deepEqual([code, stdout.trim().split('\n').at(-1), stderr], [0, 'packet', '']);
  });
}
