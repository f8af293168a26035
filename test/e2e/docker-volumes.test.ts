/** Volumes under a real Docker Engine: many at once, of all kinds, and what is refused. */
import t from 'tap';
import { DockerBed } from './docker-bed.js';
import { cannotRunDocker } from './docker-machine.js';

t.setTimeout(400_000);
const why = cannotRunDocker();
if (why !== false) {
  t.plan(0, why);
  process.exit(0);
}

const bed = await DockerBed.start(1);
t.teardown(() => bed.close());
const [host] = bed.hosts as [DockerBed['hosts'][number]];

t.test('a volume that nobody created: of the default size', async (t) => {
  const { text } = await host.run(['fresh:/data'], 'echo x > /data/x && cat /data/x');
  t.equal(text, 'x');
  t.match(await host.must('volume', 'inspect', 'fresh'), /"size": "10 GiB"/);
  await host.must('volume', 'rm', 'fresh');
  t.notMatch(await host.must('volume', 'ls'), /fresh/);
  t.match(await host.holdfast('volume', 'ls', '--trash'), /fresh/, 'in the trash');
});

t.test('twenty volumes at once leave nothing behind', async (t) => {
  const names = Array.from({ length: 20 }, (_, at) => `many-${at}`);
  const create = ['volume', 'create', '-d', 'holdfast', '-o', 'size=16MiB'];
  await Promise.all(names.map((name) => host.must(...create, name)));
  const said = await Promise.all(
    names.map((name) => host.run([`${name}:/data`], `echo ${name} > /data/x && cat /data/x`)),
  );
  t.same(
    said,
    names.map((text) => ({ code: 0, text })),
  );
  await Promise.all(names.map((name) => host.must('volume', 'rm', name)));
  t.same(await host.leftovers(), []);
  t.notMatch(await host.must('volume', 'ls', '-q'), /many/);
});

t.test(
  'what cannot be asked for counts as there: no volume of the engine takes its place',
  async (t) => {
    await host.must('volume', 'create', '-d', 'holdfast', '-o', 'size=16MiB', 'kept');
    t.equal((await host.run(['kept:/data'], 'echo x > /data/x')).code, 0);
    const run = ['run', '--rm', '--network', 'none', '-v', 'kept:/data', 'box', 'cat', '/data/x'];
    const [etcd] = bed.cluster.etcd.members;
    await etcd?.pause();
    const without = await host.docker(...run);
    etcd?.resume();
    t.not(without.code, 0);
    t.match(without.text, /error while checking if volume "kept" exists in driver "holdfast"/);
    t.same(await host.docker(...run), { code: 0, text: 'x' });
    await host.must('volume', 'rm', 'kept');
    t.same(await host.leftovers(), []);
  },
);

t.test('kinds of volumes', async (t) => {
  const create = ['volume', 'create', '-d', 'holdfast', '-o'];
  await host.must(...create, 'size=64MiB', '-o', 'type=block', '-o', 'fs-type=ext4', 'blocks');
  const { text } = await host.run(['blocks:/data'], 'echo x > /data/x; mount');
  t.match(text, /\/dev\/loop\d+ on \/data type ext4/);
  t.equal((await host.run(['blocks:/data'], 'cat /data/x')).text, 'x');
  await host.must('volume', 'rm', 'blocks');
  await host.must(...create, 'read-only=true', 'fixed');
  t.match((await host.run(['fixed:/data:nocopy'], 'touch /data/x')).text, /Read-only/);
  await host.must('volume', 'rm', 'fixed');
  t.same(await host.leftovers(), []);
});

t.test('what is refused says so in one sentence', async (t) => {
  const cases: [string[], RegExp][] = [
    [['-o', 'sise=1GiB', 'bad'], /"sise" is no option of a volume\. Options are size, replicas/],
    [['-o', 'size=much', 'bad'], /size "much" is not a size\./],
    [['-o', 'size=1KiB', 'bad'], /a volume of 1024 bytes/],
    [['-o', 'replicas=4', 'bad'], /4 replicas\. Replicas may be 1, 2, 3, 5/],
    [['-o', 'ack=1', 'bad'], /an ack quorum of 1 with 3 replicas/],
    [['-o', 'commit-interval=1h', 'bad'], /commit/],
    [['Bad'], /"Bad" is not a volume name/],
  ];
  for (const [args, text] of cases) {
    const said = await host.docker('volume', 'create', '-d', 'holdfast', ...args);
    t.equal(said.code, 1);
    t.match(said.text, text);
    t.notMatch(said.text, /\n\s+at /, 'no stack trace');
  }
  t.notMatch(await host.must('volume', 'ls', '-q'), /bad/i, 'nothing was made');
  const raw = await host.run([`${bed.cluster.volume}:/data`], 'ls /data');
  t.not(raw.code, 0);
  t.match(raw.text, /"events"/, 'a volume of another kind');
  t.same(await host.leftovers(), []);
});
