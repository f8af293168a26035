/** Whole clusters of real processes, as `holdfast up` starts them, with real kills. */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { endAll, holdfastBin, type Process, startNode } from '../fixtures/processes.js';

interface Ready {
  readonly cluster: string;
  readonly pid: number;
  readonly mount: string | null;
  readonly notMounted: string | null;
  readonly nodes: readonly { readonly address: string; readonly pid: number }[];
  readonly volumes: readonly string[];
}

const SLOW_MS = 90_000;

t.setTimeout(300_000);
t.afterEach(async () => {
  await endAll();
});

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(async () => {
    await endAll();
    // Nodes see the end of their standard input and go; their last writes may race the removal.
    for (let attempt = 0; ; attempt++) {
      try {
        rmSync(path, { recursive: true, force: true });
        return;
      } catch (error) {
        if (attempt === 50) throw error;
        await sleep(100);
      }
    }
  });
  return path;
}

/** Nothing of these tests stands where another run, or the real thing, has its mounts. */
function environment(dataDir: string): Record<string, string> {
  return { HOLDFAST_RUN_DIR: join(dataDir, 'run') };
}

function upArgs(dataDir: string, ...more: string[]): string[] {
  return ['up', '--data-dir', dataDir, '--mount', join(dataDir, 'mnt'), ...more];
}

async function startUp(dataDir: string, ...more: string[]): Promise<{ up: Process; ready: Ready }> {
  const up = startNode(holdfastBin, upArgs(dataDir, '--json', ...more), {
    env: environment(dataDir),
  });
  const ready = JSON.parse(await up.line(/^\{/, SLOW_MS)) as Ready;
  return { up, ready };
}

t.test('what the configuration file tells nodes of this machine is not for its own', async (t) => {
  const dataDir = directory(t);
  const config = join(dataDir, 'config.json');
  const node = { metricsListen: '127.0.0.1:1', advertise: '10.255.255.1:7400', zone: 'elsewhere' };
  writeFileSync(config, JSON.stringify({ metadata: 'etcd://10.255.255.1:2379', node }));
  const told = { HOLDFAST_CONFIG: config, HOLDFAST_ADVERTISE: '10.255.255.2:7400' };
  const up = startNode(holdfastBin, upArgs(dataDir, '--json', '--no-mount', '--nodes', '1'), {
    env: { ...environment(dataDir), ...told },
  });
  const { nodes } = JSON.parse(await up.line(/^\{/, SLOW_MS)) as Ready;
  t.match(nodes, [{ address: /^127\.0\.0\.1:/ }]);
  await up.stop();
});

interface Said {
  readonly code: number | null;
  readonly lines: readonly string[];
  readonly stderr: string;
}

async function holdfast(dataDir: string, args: string[], input: string[] = []): Promise<Said> {
  const command = startNode(holdfastBin, [...args, '--data-dir', dataDir], {
    env: environment(dataDir),
  });
  for (const line of input) command.write(line);
  command.child.stdin?.end();
  const { code } = await command.exited;
  return { code, lines: command.lines, stderr: command.stderr };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function untilGone(pids: readonly number[]): Promise<void> {
  for (let i = 0; i < 300 && pids.some(isAlive); i++) await sleep(100);
}

t.test('a first cluster: works, is shown, stops in order, and keeps its data', async (t) => {
  const dir = directory(t);
  const { up, ready } = await startUp(dir);
  t.same(ready.volumes, ['demo', 'events']);
  t.equal(statSync(join(dir, 'secret')).mode & 0o777, 0o600);

  const second = await holdfast(dir, ['up']);
  t.equal(second.code, 18, second.stderr);
  t.match(second.stderr, /already runs on .*pid/);

  const appended = await holdfast(dir, ['log', 'append', 'events'], ['one', 'two', 'three']);
  t.same(appended.lines, ['20', '21', '22'], appended.stderr);
  const status = await holdfast(dir, ['status', '--json']);
  const { nodes, problems } = JSON.parse(status.lines[0] ?? '{}');
  t.equal(nodes.length, 3);
  t.same(problems, []);

  t.equal(await up.stop(20_000), 0, up.stderr);
  const pids = ready.nodes.map(({ pid }) => pid);
  t.notOk(pids.some(isAlive), 'no node is left behind');

  const again = await startUp(dir);
  t.equal(again.ready.cluster, ready.cluster);
  const read = await holdfast(dir, ['log', 'read', 'events', '--from', '20']);
  t.same(read.lines.slice(0, 3), ['one', 'two', 'three'], read.stderr);
  t.equal(await again.up.stop(20_000), 0);
});

t.test('it starts with a node that is drained', async (t) => {
  const dir = directory(t);
  const { up, ready } = await startUp(dir, '--no-mount', '--nodes', '4');
  const node = ready.nodes[1]?.address ?? '';
  const drained = await holdfast(dir, ['node', 'drain', node, '--detach']);
  t.equal(drained.code, 0, drained.stderr);
  t.equal(await up.stop(20_000), 0, up.stderr);

  const again = await startUp(dir, '--no-mount');
  t.equal(again.ready.nodes.length, 4, again.up.stderr);
  t.equal(await again.up.stop(20_000), 0, again.up.stderr);
});

t.test('no acknowledged record is lost when a node and then the writer are killed', async (t) => {
  const dir = directory(t);
  const { up, ready } = await startUp(dir, '--no-mount');
  const make = ['volume', 'create', 'lines', '--size', '1GiB', '--label', 'log=plain'];
  t.equal((await holdfast(dir, make)).code, 0);
  const writer = startNode(holdfastBin, ['log', 'append', 'lines', '--data-dir', dir]);
  let written = 0;
  const feed = setInterval(() => {
    for (let i = 0; i < 5; i++) writer.write(`record ${written++}`);
  }, 2);
  t.teardown(() => clearInterval(feed));
  const acknowledged = (count: number): Promise<true> =>
    writer.until(`${count} acknowledged`, SLOW_MS, () => writer.lines.length > count || undefined);
  await acknowledged(200);
  process.kill(ready.nodes[0]?.pid as number, 'SIGKILL');
  await acknowledged(writer.lines.length + 500);
  t.pass('the log goes on with two nodes');
  clearInterval(feed);
  await writer.kill();
  const acked = writer.lines.map(Number);
  t.same(
    acked,
    acked.map((_, n) => n),
    'acknowledged in order, each once',
  );

  const refused = await holdfast(dir, ['log', 'read', 'lines']);
  t.equal(refused.code, 18, 'an owner that did not release is not pushed aside silently');
  const read = await holdfast(dir, ['log', 'read', 'lines', '--take-over']);
  t.equal(read.code, 0, read.stderr);
  t.ok(read.lines.length >= acked.length, `${read.lines.length} of ${acked.length}`);
  t.same(
    read.lines,
    read.lines.map((_, n) => `record ${n}`),
  );
  t.equal(await up.stop(20_000), 0);
});

t.test('nodes end with their parent, however that ends', async (t) => {
  const dir = directory(t);
  const { up, ready } = await startUp(dir, '--nodes', '1', '--no-mount');
  await up.kill();
  const pids = ready.nodes.map(({ pid }) => pid);
  await untilGone(pids);
  t.notOk(pids.some(isAlive));
  const again = await startUp(dir, '--no-mount');
  t.equal(again.ready.cluster, ready.cluster, 'and the directory can be used again');
  t.equal(await again.up.stop(20_000), 0);
});

t.test('lost metadata comes back from the disks, or from an export', async (t) => {
  const dir = directory(t);
  const old = join(dir, 'old.json');
  const fresh = join(dir, 'fresh.json');
  const first = await startUp(dir, '--no-mount');
  await holdfast(dir, ['log', 'append', 'events'], ['kept']);
  t.equal((await holdfast(dir, ['metadata', 'export', old])).code, 0);
  const before = await holdfast(dir, ['volume', 'show', 'events', '--json']);
  const { epoch } = JSON.parse(before.lines[0] ?? '{}');
  await first.up.stop(20_000);

  for (const way of [['rebuild'], ['import', fresh]]) {
    rmSync(join(dir, 'metadata'), { recursive: true });
    const env = environment(dir);
    const up = startNode(holdfastBin, upArgs(dir, '--json', '--no-mount'), { env });
    await up.until('the warning', SLOW_MS, () => /metadata.*is gone/.test(up.stderr) || undefined);
    if (way[0] === 'import') {
      const stale = await holdfast(dir, ['metadata', 'import', old]);
      t.equal(stale.code, 27, `an export older than the data is refused: ${stale.stderr}`);
    }
    const back = await holdfast(dir, ['metadata', ...way]);
    t.equal(back.code, 0, back.stderr);
    const ready = JSON.parse(await up.line(/^\{/, SLOW_MS)) as Ready;
    t.equal(ready.cluster, first.ready.cluster);
    const shown = await holdfast(dir, ['volume', 'show', 'events', '--json']);
    t.ok(JSON.parse(shown.lines[0] ?? '{}').epoch > epoch, 'the epoch is above what nodes knew');
    const read = await holdfast(dir, ['log', 'read', 'events', '--from', '20']);
    t.equal(read.lines[0], 'kept', `${way[0]}: ${read.stderr}`);
    if (way[0] === 'rebuild') await holdfast(dir, ['metadata', 'export', fresh]);
    t.equal(await up.stop(20_000), 0);
  }
});
