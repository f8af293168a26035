/**
 * `holdfast volume`, `log` and `metadata` against a cluster without nodes, as a shell sees them.
 */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { NodeId } from '../../src/core/ids.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { initCluster } from '../../src/metadata/cluster.js';
import { nodeKey } from '../../src/metadata/keys.js';
import { openMetadata } from '../../src/metadata/open.js';
import type { MetadataStore } from '../../src/metadata/store.js';
import { endAll, holdfastBin, startNode } from '../fixtures/processes.js';
import { id } from '../metadata/samples.js';

t.setTimeout(200_000);
t.afterEach(async () => {
  await endAll();
});

/** A store with a cluster in it; returns what --metadata takes. */
async function cluster(t: Test): Promise<{ metadata: string; dir: string }> {
  const dir = mkdtempSync(join(tmpdir(), 'hfv-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const metadata = `embedded:${join(dir, 'metadata')}`;
  await initStore(metadata);
  return { metadata, dir };
}

async function initStore(metadata: string): Promise<void> {
  await withStore(metadata, (store) => initCluster(store, nodeClock, nodeRandom));
}

async function withStore<T>(metadata: string, work: (store: MetadataStore) => Promise<T>) {
  const parts = { clock: nodeClock, random: nodeRandom, env: {} };
  const store = await openMetadata(metadata, parts);
  await work(store);
  await store.close();
}

function holdfast(cwd: string, ...args: string[]) {
  return holdfastWith({}, cwd, ...args);
}

async function holdfastWith(more: Record<string, string>, cwd: string, ...args: string[]) {
  const env = { HOLDFAST_METADATA: '', HOLDFAST_DATA_DIR: '', HOLDFAST_CONFIG: '', ...more };
  const command = startNode(holdfastBin, args, { cwd, env });
  command.child.stdin?.end();
  const { code } = await command.exited;
  return { code, lines: command.lines, stderr: command.stderr };
}

t.test('volumes are created, listed and shown', async (t) => {
  const { metadata, dir } = await cluster(t);
  const at = ['--metadata', metadata];
  const size = ['--size', '10GiB'];
  const made = await holdfast(dir, 'volume', 'create', 'db', ...size, '--label', 'team=web', ...at);
  t.equal(made.code, 0, made.stderr);
  t.match(made.lines, ['created volume db: 10 GiB, 3 replicas, fsync waits for 2']);
  const again = await holdfast(dir, 'volume', 'create', 'db', ...size, ...at);
  t.equal(again.code, 13);
  t.match(again.stderr, /^holdfast: a volume named "db" exists\.[^\n]*\n$/, 'one line');
  const create = ['volume', 'create', 'db', '--if-not-exists', ...at];
  const same = await holdfast(dir, ...create, ...size);
  t.equal(same.code, 0, same.stderr);
  t.match(same.lines, ['there is db: 10 GiB, 3 replicas, fsync waits for 2']);
  const other = await holdfast(dir, ...create, '--size', '20GiB');
  t.equal(other.code, 13);
  t.match(other.stderr, /a volume named "db" exists with \d+ bytes, not \d+/);

  const listed = await holdfast(dir, 'volume', 'ls', '--json', ...at);
  const [record] = JSON.parse(listed.lines[0] ?? '[]');
  t.match(record, { name: 'db', sizeBytes: 10 * 1024 ** 3, replicas: 3, labels: { team: 'web' } });
  const shown = await holdfast(dir, 'volume', 'show', 'db', ...at);
  t.match(shown.lines.join('\n'), /replicas\s+3, fsync waits for 2/);
  const missing = await holdfast(dir, 'volume', 'show', 'nothing', '--json', ...at);
  t.equal(missing.code, 12);
  t.match(JSON.parse(missing.stderr), { error: { code: 'NOT_FOUND', exitCode: 12 } });
});

t.test('who may not see the mounts of this machine is shown volumes, and grows them', async (t) => {
  const { metadata, dir } = await cluster(t);
  const at = ['--metadata', metadata];
  t.equal((await holdfast(dir, 'volume', 'create', 'db', '--size', '1GiB', ...at)).code, 0);
  const run = join(dir, 'run');
  mkdirSync(run);
  chmodSync(run, 0o777);
  const as = { HOLDFAST_RUN_DIR: run };
  t.equal((await holdfastWith(as, dir, 'mounts')).code, 20, 'it is not used');
  const grown = await holdfastWith(as, dir, 'volume', 'expand', 'db', '--size', '2GiB', ...at);
  t.equal(grown.code, 0, grown.stderr);
  const shown = await holdfastWith(as, dir, 'volume', 'show', 'db', ...at);
  t.equal(shown.code, 0, shown.stderr);
  t.match(shown.lines.join('\n'), /size +2 GiB/);
});

t.test('labels are set and taken away later, and are bounded', async (t) => {
  const { metadata, dir } = await cluster(t);
  const at = ['--json', '--metadata', metadata];
  const create = ['volume', 'create', 'db', '--size', '1GiB', '--label', 'team=web'];
  t.equal((await holdfast(dir, ...create, '--label', 'old=1', ...at)).code, 0);
  const set = ['volume', 'set', 'db', ...at];
  const more = ['--label', 'team=db', '--label', 'x=', '--remove-label', 'old'];
  const changed = await holdfast(dir, ...set, ...more, '--remove-label', 'none');
  t.equal(changed.code, 0, changed.stderr);
  t.same(JSON.parse(changed.lines[0] ?? '').labels, { team: 'db', x: '' });
  const wrong: [string, string, RegExp][] = [
    ['--label', 'x', /KEY=VALUE/],
    ['--label', '__proto__=x', /KEY=VALUE/],
    ['--label', `${'k'.repeat(129)}=v`, /is too long.*128 bytes/],
    ['--label', `k=${'ü'.repeat(513)}`, /is too long.*1024/],
  ];
  for (const [option, value, message] of wrong) {
    for (const command of [set, [...create.slice(0, 2), 'other', ...create.slice(3), ...at]]) {
      const { code, stderr } = await holdfast(dir, ...command, option, value);
      t.equal(code, 2, stderr);
      t.match(JSON.parse(stderr).error, { code: 'INVALID_ARGUMENT' });
      t.match(stderr, message);
    }
  }
  const listed = await holdfast(dir, 'volume', 'ls', '--label', 'team=db', ...at);
  t.match(JSON.parse(listed.lines[0] ?? ''), [{ name: 'db', labels: { team: 'db', x: '' } }]);
});

t.test('what a volume is created with may stand in the environment and in the file', async (t) => {
  const { metadata, dir } = await cluster(t);
  const config = join(dir, 'config.json');
  const volume = { size: '3GiB', replicas: 2, label: ['team=web'], commitInterval: 9 };
  writeFileSync(config, JSON.stringify({ metadata, volume }));
  const create = (name: string, env: Record<string, string>, ...more: string[]) =>
    holdfastWith(env, dir, 'volume', 'create', name, '--config', config, '--json', ...more);
  const made = await create('one', { HOLDFAST_REPLICAS: '1' });
  t.equal(made.code, 0, made.stderr);
  t.match(JSON.parse(made.lines[0] ?? ''), {
    ...{ sizeBytes: 3 * 2 ** 30, replicas: 1, labels: { team: 'web' } },
    settings: { commitIntervalMs: 9000 },
  });
  const flagged = await create('two', { HOLDFAST_REPLICAS: '1' }, '--replicas', '3');
  t.match(JSON.parse(flagged.lines[0] ?? ''), { replicas: 3 });
  const wrong = await create('three', { HOLDFAST_SIZE: '3GB' });
  t.equal(wrong.code, 2);
  t.match(wrong.stderr, /HOLDFAST_SIZE: .*unit "GB|HOLDFAST_SIZE: .*\\"GB/);
});

t.test('what docker-plugin is told of keeping holds for the command line too', async (t) => {
  const { metadata, dir } = await cluster(t);
  const config = join(dir, 'config.json');
  writeFileSync(config, JSON.stringify({ metadata, retention: 'forever' }));
  const at = ['--config', config];
  for (const more of [[], ['--retention', 'forever', '--json'], ['--retention', '1h', '--json']]) {
    const made = await holdfast(dir, 'volume', 'create', 'db', '--size', '1GiB', ...at);
    t.equal(made.code, 0, made.stderr);
    const { code, lines, stderr } = await holdfast(dir, 'volume', 'rm', 'db', ...more, ...at);
    t.equal(code, 0, stderr);
    const [line = ''] = lines;
    if (more.length === 0) t.match(line, /in the trash until it is purged\. To get it back/);
    else t.equal(JSON.parse(line).trash.keptUntil === null, more[1] === 'forever');
  }
  t.match((await holdfast(dir, 'volume', 'ls', '--trash', ...at)).lines[1], /somebody purges it|T/);
});

t.test('what is asked wrongly is refused with a hint, and nothing is created', async (t) => {
  const { metadata, dir } = await cluster(t);
  const at = ['--metadata', metadata];
  const wrong: [string[], RegExp][] = [
    [['volume', 'create', 'db'], /--size/],
    [['volume', 'create', 'db', '--size', '10GB'], /unit "GB"/],
    [['volume', 'create', 'DB!', '--size', '10GiB'], /not a volume name/],
    [['volume', 'create', 'db', '--size', '10GiB', '--replicas', 'x'], /--replicas.*whole/],
    [['volume', 'create', 'db', '--size', '10GiB', '--replicas', '3', '--ack', '1'], /quorum/],
    [['volume', 'create', 'db', '--size', '10GiB', '--kind', 'tape'], /no kind/],
    [['volume', 'create', 'db', '--size', '10GiB', '--label', 'x'], /KEY=VALUE/],
  ];
  for (const [args, message] of wrong) {
    const { code, stderr } = await holdfast(dir, ...args, ...at);
    t.equal(code, 2, args.join(' '));
    t.match(stderr, message);
  }
  t.same((await holdfast(dir, 'volume', 'ls', '--json', ...at)).lines, ['[]']);
});

t.test('a machine that nobody knows is not forgotten', async (t) => {
  const { metadata, dir } = await cluster(t);
  const gone = await holdfast(dir, 'machines', 'rm', 'worker-3', '--metadata', metadata);
  t.equal(gone.code, 12);
  t.match(
    gone.stderr,
    /^holdfast: there is no machine "worker-3"\. See "holdfast machines ls"\.\n$/,
  );
});

t.test('without a cluster, what to do is said', async (t) => {
  const { dir } = await cluster(t);
  const nowhere = await holdfast(dir, 'volume', 'ls');
  t.equal(nowhere.code, 2);
  t.match(nowhere.stderr, /which cluster is meant\?.*holdfast up/);
  const noUp = await holdfast(dir, 'volume', 'ls', '--data-dir', dir);
  t.match(noUp.stderr, /no data directory of "holdfast up"/);
  const empty = await holdfast(dir, 'volume', 'ls', '--metadata', `embedded:${join(dir, 'new')}`);
  t.equal(empty.code, 12);
  const before = readdirSync(dir);
  for (const place of [join(dir, 'new'), dir, '/proc/x']) {
    for (const words of [['status'], ['mount', 'db', '/mnt'], ['metadata', 'export', 'file']]) {
      const mistyped = await holdfast(dir, ...words, '--metadata', `embedded:${place}`);
      t.equal(mistyped.code, 12, `${words.join(' ')} ${place}`);
      t.match(mistyped.stderr, /^holdfast: embedded:\/[^\n]*it does not exist[^\n]*cluster init/);
    }
  }
  t.same(readdirSync(dir), before, 'only looked for');
});

t.test('a filesystem is not damaged by plain records, nor shut out by whoever reads', async (t) => {
  const { metadata, dir } = await cluster(t);
  const at = ['--metadata', metadata];
  await holdfast(dir, 'volume', 'create', 'db', '--size', '1GiB', ...at);
  for (const verb of ['append', 'read']) {
    const refused = await holdfast(dir, 'log', verb, 'db', '--take-over', ...at);
    t.equal(refused.code, 2, verb);
    t.match(refused.stderr, /no plain log/, verb);
  }
});

t.test('metadata goes out and back, to an empty store only, and never half', async (t) => {
  const { metadata, dir } = await cluster(t);
  const at = ['--metadata', metadata];
  await holdfast(dir, 'volume', 'create', 'db', '--size', '1GiB', ...at);
  const file = join(dir, 'export.json');
  t.equal((await holdfast(dir, 'metadata', 'export', file, ...at)).code, 0);
  const twice = await holdfast(dir, 'metadata', 'export', file, ...at);
  t.equal(twice.code, 13, 'an older export is not overwritten');

  const refused = await holdfast(dir, 'metadata', 'import', file, ...at);
  t.equal(refused.code, 2, 'the store is not empty');
  const other = ['--metadata', `embedded:${join(dir, 'other')}`];
  const damaged = join(dir, 'damaged.json');
  writeFileSync(damaged, readFileSync(file, 'utf8').replace('"db"', '"dc"'));
  t.equal((await holdfast(dir, 'metadata', 'import', damaged, ...other)).code, 10);
  const imported = await holdfast(dir, 'metadata', 'import', file, ...other);
  t.equal(imported.code, 0, imported.stderr);
  const listed = await holdfast(dir, 'volume', 'ls', '--json', ...other);
  t.match(JSON.parse(listed.lines[0] ?? '[]'), [{ name: 'db' }]);
  const forced = await holdfast(dir, 'metadata', 'import', file, '--force', ...at);
  t.equal(forced.code, 0, forced.stderr);
  await holdfast(dir, 'volume', 'create', 'since', '--size', '1GiB', ...at);
  const older = await holdfast(dir, 'metadata', 'import', file, '--force', ...at);
  t.equal(older.code, 27, older.stderr);
  t.match(older.stderr, /volume "since" is not in the export.*--accept-loss/s);
  const taken = ['metadata', 'import', file, '--force', '--accept-loss', ...at];
  t.match((await holdfast(dir, ...taken)).lines.join('\n'), /^! volume "since" is not in the/m);
  const rebuild = await holdfast(dir, 'metadata', 'rebuild', ...at);
  t.equal(rebuild.code, 2);
  t.match(rebuild.stderr, /--cluster, --node/);
});

t.test('a node whose record is damaged is asked for, and does not stop an import', async (t) => {
  const { metadata, dir } = await cluster(t);
  const at = ['--metadata', metadata];
  const file = join(dir, 'export.json');
  t.equal((await holdfast(dir, 'metadata', 'export', file, ...at)).code, 0);
  const node = id<NodeId>('5');
  const put = { type: 'put', key: nodeKey(node), value: '{"schema":1,' } as const;
  await withStore(metadata, (store) => store.transact([], [put]));
  const forced = ['metadata', 'import', file, '--force', ...at];
  const refused = await holdfast(dir, ...forced);
  t.equal(refused.code, 20, refused.stderr);
  t.match(refused.stderr, `node ${node}: its address cannot be read`);
  t.equal((await holdfast(dir, ...forced, '--accept-loss')).code, 0);
});

t.test('the exit codes stand in the main help only, and hints name the command', async (t) => {
  const { dir } = await cluster(t);
  t.match((await holdfast(dir, '--help')).lines.join('\n'), /Exit codes:\n +0 done/);
  for (const args of [
    ['status', '--help'],
    ['help', 'volume'],
    ['metadata', 'rebuild', '--help'],
  ]) {
    const text = (await holdfast(dir, ...args)).lines.join('\n');
    t.match(text, /Exit codes: see "holdfast --help"/, args.join(' '));
    t.notMatch(text, /NOT_FOUND/, args.join(' '));
  }
  const wrong: [string[], RegExp][] = [
    [['volume'], /"holdfast volume" needs a command\. See "holdfast volume --help"/],
    [['help', 'nope'], /unknown command 'nope'/],
    [['volume', 'create'], /argument 'name'.*See "holdfast volume create --help"/],
  ];
  for (const [args, message] of wrong) {
    const { code, stderr } = await holdfast(dir, ...args);
    t.equal(code, 2);
    t.match(stderr, message);
  }
});

t.test('a node without a secret is refused, on loopback as well', async (t) => {
  const { metadata, dir } = await cluster(t);
  mkdirSync(join(dir, 'disk'));
  const args = ['node', '--data-dir', join(dir, 'disk'), '--listen', '127.0.0.1:0'];
  const refused = await holdfast(dir, ...args, '--metadata', metadata);
  t.equal(refused.code, 2);
  t.match(refused.stderr, /secret is missing.*--secret-file FILE.*cluster init/);
  t.same(readdirSync(join(dir, 'disk')), [], 'nothing was formatted');
});

t.test('a volume with more replicas than nodes is created and says so', async (t) => {
  const { metadata, dir } = await cluster(t);
  const made = await holdfast(
    dir,
    'volume',
    'create',
    'x',
    '--size',
    '1GiB',
    '--metadata',
    metadata,
  );
  t.match(made.lines.join('\n'), /has 0 nodes: there are fewer copies until it has 3/);
});
