/** Volumes under a real Docker Engine: what containers, plugin and engine survive. */
import t from 'tap';
import { DockerBed } from './docker-bed.js';
import { cannotRunDocker } from './docker-machine.js';
import { countLines, Writer } from './docker-writer.js';

t.setTimeout(400_000);
const why = cannotRunDocker();
if (why !== false) {
  t.plan(0, why);
  process.exit(0);
}

const bed = await DockerBed.start(1);
t.teardown(() => bed.close());
const [host] = bed.hosts as [DockerBed['hosts'][number]];

t.test('data outlives containers', async (t) => {
  await host.must('volume', 'create', '-d', 'holdfast', '-o', 'size=64MiB', 'db');
  const writer = await Writer.start(host, 'first', 'db');
  const acked = await writer.more(30);
  await host.must('rm', '-f', 'first');
  const second = await Writer.start(host, 'second', 'db');
  t.ok((await second.more(10)) > acked, 'goes on where the first one ended');
  await host.must('rm', '-f', 'second');
  t.ok((await countLines(host, 'db')) > acked);
  t.same(await host.leftovers(), []);
  t.match(await host.must('volume', 'inspect', 'db'), /"mounted": "no"/);
});

t.test('the plugin is killed while a container writes', async (t) => {
  const writer = await Writer.start(host, 'busy', 'db');
  await writer.more(10);
  await host.killPlugin();
  await writer.more(10);
  await host.startPlugin();
  const { text } = await host.run(['db:/data:ro'], 'wc -l < /data/wal && touch /data/no');
  t.match(text, /^\d+\n.*Read-only/s, 'a second one, read-only');
  const acked = await writer.more(10);
  await host.killPlugin();
  await host.startPlugin();
  await host.must('rm', '-f', 'busy');
  t.same(await host.leftovers(), [], 'the count was kept: the last one unmounted');
  t.ok((await countLines(host, 'db')) >= acked);
});

t.test('the engine is restarted while a container writes (live-restore)', async (t) => {
  const writer = await Writer.start(host, 'lively', 'db');
  await writer.more(10);
  const started = await host.must('inspect', '-f', '{{.State.StartedAt}}', 'lively');
  for (const signal of ['TERM', 'KILL'] as const) {
    await host.stopEngine(signal);
    await host.startEngine('--live-restore');
    await writer.more(10);
  }
  t.equal(await host.must('inspect', '-f', '{{.State.StartedAt}}', 'lively'), started);
  const acked = await writer.more(1);
  await host.must('rm', '-f', 'lively');
  t.same(await host.leftovers(), []);
  t.ok((await countLines(host, 'db')) >= acked);
});

t.test('two containers share a volume', async (t) => {
  const writer = await Writer.start(host, 'one', 'db');
  const other = await Writer.start(host, 'two', 'db2');
  const { text } = await host.run(['db:/data', 'db2:/tmp'], 'touch /data/seen; wc -l < /tmp/wal');
  t.ok(Number(text) > 0);
  t.equal(await host.must('exec', 'one', 'ls', '/data/seen'), '/data/seen');
  t.match(await host.must('volume', 'inspect', 'db'), /"containersHere": 1,/);
  await host.must('rm', '-f', 'two');
  t.match((await host.docker('volume', 'rm', 'db')).text, /in use|uses "db"/);
  await writer.more(5);
  t.ok((await host.must('volume', 'rm', 'db2')).includes('db2'));
  await host.must('rm', '-f', 'one');
  t.same(await host.leftovers(), []);
  t.ok(other.name);
});
