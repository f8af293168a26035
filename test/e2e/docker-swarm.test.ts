/** A Swarm of two machines: a service keeps its volume when its task is started again or moves. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { projectRoot } from '../style/source.js';
import { DockerBed, type DockerHost } from './docker-bed.js';
import { cannotRunDocker } from './docker-machine.js';
import { countLines, lastAcked, WRITER } from './docker-writer.js';

t.setTimeout(400_000);
const why = cannotRunDocker();
if (why !== false) {
  t.plan(0, why);
  process.exit(0);
}

const PATIENCE_MS = 90_000;
const bed = await DockerBed.start(2, { liveRestore: false });
t.teardown(() => bed.close());
const [manager, worker] = bed.hosts as [DockerHost, DockerHost];

/** What the newest running task said, and where it runs. */
async function running(): Promise<{ readonly host: DockerHost; readonly acked: number } | null> {
  for (const host of bed.hosts) {
    const { code, text } = await host.docker('ps', '-q', '--filter', 'name=db-service');
    const [container] = text.split('\n');
    if (code !== 0 || container === undefined || container === '') continue;
    const said = (await host.docker('logs', container)).text;
    if (said.includes('FAILED')) throw new Error(`an I/O error: ${said.slice(-200)}`);
    return { host, acked: lastAcked(said) };
  }
  return null;
}

/** Waits until a task runs there and acknowledges more than this. */
async function untilBeyond(host: DockerHost | null, lines: number): Promise<number> {
  for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(300)) {
    const now = await running();
    const isThere = now !== null && (host === null || now.host === host);
    if (isThere && now.acked > lines) return now.acked;
    if (Date.now() < deadline) continue;
    const tasks = await manager.docker('service', 'ps', '--no-trunc', 'db-service');
    throw new Error(`no task beyond line ${lines}: ${JSON.stringify(now?.acked)} ${tasks.text}`);
  }
}

t.test('a service', async (t) => {
  await manager.must('swarm', 'init', '--advertise-addr', manager.machine.address);
  const token = await manager.must('swarm', 'join-token', '-q', 'worker');
  await worker.must('swarm', 'join', '--token', token, `${manager.machine.address}:2377`);
  const mount = 'type=volume,source=db,target=/data,volume-driver=holdfast,volume-opt=size=64MiB';
  await manager.must(
    ...['service', 'create', '--detach', '--name', 'db-service', '--mount', mount],
    ...['--network', 'host', '--no-resolve-image', '--constraint', 'node.hostname==machine0'],
    ...['box', 'sh', '-c', WRITER],
  );
  const acked = await untilBeyond(manager, 20);
  t.ok(acked > 20);
  t.match(await manager.must('volume', 'inspect', 'db'), /"size": "64 MiB"/);
});

t.test('its task is started again', async (t) => {
  const acked = (await running())?.acked ?? 0;
  await manager.must('service', 'update', '--detach', '--force', 'db-service');
  await sleep(3_000);
  t.ok((await untilBeyond(manager, acked + 10)) > acked);
});

t.test('its task moves to another machine', async (t) => {
  const acked = (await running())?.acked ?? 0;
  const since = Date.now();
  await manager.must(
    ...['service', 'update', '--detach', 'db-service', '--constraint-rm'],
    ...['node.hostname==machine0', '--constraint-add', 'node.role==worker'],
  );
  await untilBeyond(worker, acked);
  t.comment(`moved after ${Date.now() - since} ms, with the stop of the old task`);
  t.match(await manager.must('volume', 'inspect', 'db'), /"mounted": "on machine1 at/);
  t.same(await manager.leftovers(), []);
});

t.test('the stack of deploy/docker is one', async (t) => {
  const directory = join(projectRoot(), 'deploy', 'docker');
  const empty = join(bed.root, 'empty');
  writeFileSync(empty, '{}');
  await manager.must('secret', 'create', 'holdfast-secret', empty);
  await manager.must('config', 'create', 'holdfast-config', empty);
  const file = ['-c', join(directory, 'stack.yaml'), '--resolve-image', 'never'];
  const said = await manager.must('stack', 'deploy', ...file, 'try');
  t.match(said, /Creating service try_node/);
  t.notMatch(said, /[Ii]gnoring/);
  t.match(await manager.must('service', 'ls'), /try_database/);
  const mounts = '{{json .Spec.TaskTemplate.ContainerSpec.Mounts}}';
  const inspected = await manager.must('service', 'inspect', '-f', mounts, 'try_database');
  t.match(JSON.parse(inspected), [
    {
      Source: 'db',
      VolumeOptions: { DriverConfig: { Name: 'holdfast', Options: { size: '20GiB' } } },
    },
  ]);
  await manager.must('stack', 'rm', 'try');
});

t.test('the machine of its task dies', async (t) => {
  const acked = (await running())?.acked ?? 0;
  await manager.must(
    'service',
    'update',
    '--detach',
    'db-service',
    '--constraint-rm',
    'node.role==worker',
  );
  await untilBeyond(null, acked);
  const before = await running();
  t.ok(before);
  if (before?.host === worker) {
    await worker.machine.die();
    t.ok((await untilBeyond(manager, before.acked)) > before.acked, 'it goes on elsewhere');
  }
  await manager.must('service', 'rm', 'db-service');
  for (let waited = 0; waited < 30_000 && (await running()) !== null; waited += 300)
    await sleep(300);
  t.same(await manager.leftovers(), []);
  t.ok((await countLines(manager, 'db')) > acked);
});
