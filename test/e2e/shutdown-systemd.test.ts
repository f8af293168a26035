/**
 * The end of a machine on which everything runs: programs end first, then volumes are unmounted,
 * then the node ends, then etcd; and what was written shortly before, and never flushed, is there
 * afterwards. The units are those of deploy/systemd, in a systemd of its own; it is told to stop
 * all of them at once, in one transaction, as it does when the machine is shut down.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { openLifecycle } from '../../src/cli/lifecycle.js';
import { installRuntime } from '../../src/cli/runtime.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { initCluster } from '../../src/metadata/cluster.js';
import { openMetadata } from '../../src/metadata/open.js';
import type { MetadataStore } from '../../src/metadata/store.js';
import { freePorts } from '../fixtures/etcd.js';
import { cannotBoot, Systemd } from '../fixtures/systemd.js';
import { cannotMount } from '../fuse/mounted.js';

const skip = cannotMount() || cannotBoot();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
const WAIT_MS = 60_000;
t.setTimeout(300_000);

const root = mkdtempSync(join(tmpdir(), 'hf-shutdown-'));
const shared = join(root, 'shared');
for (const name of ['disk', 'etcd', 'mnt', 'tmp'])
  mkdirSync(join(shared, name), { recursive: true });
const { program } = await installRuntime(join(shared, 'runtime'));
const [client = 0, peer = 0, port = 0] = await freePorts(3);
const url = `etcd://127.0.0.1:${client}`;
const socket = join(shared, 'agent.sock');
const secretFile = join(shared, 'secret');
const directory = join(shared, 'mnt');
const order = join(shared, 'order');
writeFileSync(secretFile, 'a secret of this test, of 32 bytes and more', { mode: 0o600 });
const systemd = await Systemd.start(join(root, 'systemd'), [shared]);
t.teardown(async () => {
  await systemd.close();
  rmSync(root, { recursive: true, force: true });
});
const run = async (script: string): Promise<string> => {
  const { status, text } = await systemd.run('sh', '-ec', script);
  if (status !== 0) throw new Error(`${script}: ${text}`);
  return text;
};

async function eventually<T>(what: string, test: () => Promise<T | null> | T | null): Promise<T> {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const found = await Promise.resolve()
      .then(test)
      .catch(() => null);
    if (found !== null) return found;
    if (Date.now() > deadline) throw new Error(`not in ${WAIT_MS} ms: ${what}`);
    await sleep(100);
  }
}

/** The units as they are shipped, etcd's as distributions have it, and who ended when. */
async function installUnits(): Promise<void> {
  const shipped = fileURLToPath(new URL('../../../deploy/systemd/', import.meta.url));
  const config = { metadata: url, secretFile };
  const noted = (name: string): string =>
    `[Service]\nExecStopPost=/bin/sh -c 'echo ${name} >> ${order}'\n`;
  const agent = `[Service]\nEnvironment=HOLDFAST_RUN_DIR=${shared}/run\n`;
  const node = { dataDir: [`${shared}/disk`], listen: `127.0.0.1:${port}`, journalSize: '4MiB' };
  const peers = `http://127.0.0.1:${peer}`;
  const etcd = `[Unit]\nAfter=network.target\n[Service]\nType=notify\nExecStart=/usr/bin/env etcd \
--data-dir ${shared}/etcd --listen-client-urls http://127.0.0.1:${client} \
--advertise-client-urls http://127.0.0.1:${client} --listen-peer-urls ${peers} \
--initial-advertise-peer-urls ${peers} --initial-cluster default=${peers}\n`;
  const writer = `[Service]\nExecStart=/bin/sh ${shared}/writer\n`;
  const files: Record<string, string> = {
    '/etc/holdfast/config.json': JSON.stringify({
      ...config,
      node,
      agent: { socket },
    }),
    '/etc/systemd/system/etcd.service': etcd,
    // It stands for what runs programs: they have the mount until it ends.
    '/etc/systemd/system/docker.service': writer,
    '/etc/systemd/system/off.target': '[Unit]\nAllowIsolate=yes\nDefaultDependencies=no\n',
    '/etc/systemd/system/etcd.service.d/noted.conf': noted('etcd'),
    '/etc/systemd/system/docker.service.d/noted.conf': noted('program'),
    '/etc/systemd/system/holdfast-node.service.d/noted.conf': noted('node'),
    '/etc/systemd/system/holdfast-agent.service.d/noted.conf': agent,
    '/etc/systemd/system/holdfast-mount-.service.d/noted.conf': noted('mount'),
  };
  for (const [at, [path, text]] of Object.entries(files).entries()) {
    writeFileSync(join(shared, 'tmp', `${at}`), text);
    await run(`mkdir -p "$(dirname ${path})" && cp ${shared}/tmp/${at} ${path}`);
  }
  // This tree may be where that systemd sees nothing, such as below /tmp.
  cpSync(shipped, join(shared, 'units'), { recursive: true });
  await run(`cp ${shared}/units/*.service /etc/systemd/system/
    ln -s ${program} /usr/local/bin/holdfast
    systemctl daemon-reload`);
}

const WRITER = `
trap 'echo last >> ${directory}/lines; exit 0' TERM
i=0
while :; do
  echo $i >> ${directory}/lines
  i=$((i + 1))
  echo $i > ${shared}/count
  sleep 0.02
done`;

t.test('programs, mounts, the node, etcd: in this order, and nothing is lost', async (t) => {
  await installUnits();
  writeFileSync(join(shared, 'writer'), WRITER);
  const everything = 'etcd holdfast-node holdfast-agent';
  await run('systemctl start etcd');
  const parts = { clock: nodeClock, random: nodeRandom, env: {} };
  const store = await eventually<MetadataStore>('etcd answers', () => openMetadata(url, parts));
  t.teardown(() => store.close());
  await initCluster(store, nodeClock, nodeRandom);
  await run(`systemctl start ${everything}`);
  const location = { metadata: url, secretFile };
  const { lifecycle, close } = await openLifecycle(location, { machine: 'alpha', agent: socket });
  t.teardown(close);
  const made = await eventually('a volume', () =>
    lifecycle.create({ name: 'db', sizeBytes: 2 ** 30, replicas: 1 }),
  );
  await eventually('the agent answers', () => lifecycle.machine.list());
  await lifecycle.mount(made.id, directory);
  await run('systemctl start docker');
  await eventually('the program writes', () =>
    existsSync(join(shared, 'count')) && Number(readFileSync(join(shared, 'count'))) > 20
      ? true
      : null,
  );
  await run('systemctl isolate off.target');
  const ended = await eventually('all have ended', () => {
    const lines = readFileSync(order, 'utf8').trim().split('\n');
    return lines.length === 4 ? lines : null;
  });
  t.same(ended, ['program', 'mount', 'node', 'etcd']);
  const count = Number(readFileSync(join(shared, 'count'), 'utf8'));
  t.notMatch(await run('cat /proc/self/mountinfo'), /fuse\.holdfast/);

  await run(`systemctl start ${everything}`);
  await eventually('the agent answers', () => lifecycle.machine.list());
  await eventually('it is mounted again', () => lifecycle.mount(made.id, directory));
  const lines = (await run(`cat ${directory}/lines`)).split('\n');
  t.equal(lines.at(-1), 'last', 'also what was written last of all');
  t.ok(lines.length - 1 >= count, `${lines.length - 1} lines of ${count}`);
  await lifecycle.unmount(directory);
  await run(`systemctl stop ${everything}`);
});
