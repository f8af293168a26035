/**
 * The managed plugin, built from this tree and installed into a real engine: its mounts are the
 * machine's, and outlive its process, its restart and its removal.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { DockerBed, type DockerHost } from './docker-bed.js';
import { cannotRunDocker } from './docker-machine.js';
import { countLines, Writer } from './docker-writer.js';

t.setTimeout(300_000);
const why = cannotRunDocker();
if (why !== false) {
  t.plan(0, why);
  process.exit(0);
}

const bed = await DockerBed.start(1, { isManaged: true });
t.teardown(() => bed.close());
const [host] = bed.hosts as [DockerHost];

/** The plugin's own process, as seen from outside. */
function pluginProcess(): number {
  const [found] = host.machine.pids((line) => / docker-plugin --agent /.test(line));
  if (found === undefined) throw new Error('the plugin does not run');
  return found;
}

t.test('volumes', async (t) => {
  await host.must('volume', 'create', '-d', 'holdfast', '-o', 'size=64MiB', 'db');
  t.equal((await host.run(['db:/data'], 'echo x > /data/x; cat /data/x')).text, 'x');
  t.match(await host.must('volume', 'inspect', 'db'), /"size": "64 MiB"/);
  t.same(await host.leftovers(), []);
});

t.test('its process is killed while a container writes', async (t) => {
  const writer = await Writer.start(host, 'busy', 'db');
  await writer.more(10);
  const before = pluginProcess();
  process.kill(before, 'SIGKILL');
  await writer.more(10);
  for (let waited = 0; waited < 60_000; waited += 500) {
    await sleep(500);
    if ((await host.docker('volume', 'inspect', 'db')).code === 0) break;
  }
  t.not(pluginProcess(), before, 'the engine started it again');
  const { code } = await host.run(['db:/data:ro'], 'wc -l < /data/wal');
  t.equal(code, 0, 'a second container');
  await writer.more(10);
});

t.test('it is disabled, and enabled again', async (t) => {
  const writer = Writer.of(host, 'busy');
  await host.must('plugin', 'disable', '-f', 'holdfast');
  await writer.more(10);
  await host.must('plugin', 'enable', '--timeout', '120', 'holdfast');
  const { code, text } = await host.run(['db:/data:ro'], 'wc -l < /data/wal');
  t.equal(code, 0, text);
  const acked = await writer.more(10);
  await host.must('rm', '-f', 'busy');
  t.same(await host.leftovers(), [], 'the count was kept');
  t.ok((await countLines(host, 'db')) >= acked);
});

t.test('it is removed', async (t) => {
  const writer = await Writer.start(host, 'last', 'db');
  await host.must('plugin', 'disable', '-f', 'holdfast');
  await host.must('plugin', 'rm', '-f', 'holdfast');
  t.ok((await writer.more(10)) > 0);
});
