/** The operator's log where it cannot be written. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import t from 'tap';
import { distRoot } from '../fixtures/processes.js';

t.test('a process whose log is full goes on', async (t) => {
  const full = openSync('/dev/full', 'w');
  t.teardown(() => closeSync(full));
  const script = `
const { createLog } = await import('${distRoot}src/io/node/log.js');
const log = createLog({ level: 'info', json: true });
for (let i = 0; i < 100; i++) log.warn({ text: 'x'.repeat(5000) }, 'A line.');
setTimeout(() => {
  log.warn({}, 'Later.');
  console.log('went on');
}, 10);`;
  const args = ['--input-type=module', '-e', script];
  const { status, stdout } = spawnSync(process.execPath, args, { stdio: ['ignore', 'pipe', full] });
  t.same([status, stdout.toString()], [0, 'went on\n']);
});
