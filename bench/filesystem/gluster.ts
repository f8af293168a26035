/**
 * A GlusterFS volume with three replicas on three bricks, on this machine: Debian's
 * glusterfs-server as it is, but in namespaces of its own (mounts, network, processes), with its
 * state bound from a new directory. So it touches nothing of an installed one, and all of it ends
 * with the first process of the namespaces, which ends when this process does.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { run } from './command.js';
import { dropCaches, makeDirectory, settle, type Target } from './target.js';

const START_TIMEOUT_MS = 60_000;
/** GlusterFS refuses loopback addresses for replicas. */
const ADDRESS = '198.18.0.1';
const VOLUME = 'bench';

// A volume of ours that is mounted in here as well would not be released when it is unmounted.
const SCRIPT = `
set -e
cd "$1"
umount -a -i -l -t fuse.holdfast
ip link set lo up
ip addr add ${ADDRESS}/32 dev lo
mkdir state log brick-1 brick-2 brick-3
mount -t tmpfs none /run
mkdir /run/gluster
mount --bind state /var/lib/glusterd
mount --bind log /var/log/glusterfs
glusterd
gluster="gluster --mode=script"
for i in $(seq 100); do $gluster volume list > /dev/null 2>&1 && break; sleep 0.1; done
bricks=$(for i in 1 2 3; do echo "${ADDRESS}:$1/brick-$i"; done)
$gluster volume create ${VOLUME} replica 3 $bricks force >&2
$gluster volume start ${VOLUME} >&2
mount -t glusterfs ${ADDRESS}:/${VOLUME} "$1/mount"
mkdir "$1/mount/work"
echo ready
read -r end || true
umount "$1/mount" || umount -l "$1/mount" || true
$gluster volume stop ${VOLUME} force > /dev/null 2>&1 || true
`;

export async function startGluster(parent: string): Promise<Target> {
  const directory = makeDirectory(parent, 'glusterfs');
  const mount = join(directory, 'mount');
  mkdirSync(mount);
  const namespaces = [
    '--mount',
    '--propagation=slave',
    '--net',
    '--pid',
    '--fork',
    '--kill-child',
    '--mount-proc',
  ];
  const child = spawn('unshare', [...namespaces, 'sh', '-c', SCRIPT, 'sh', directory], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    cwd: '/',
  });
  const close = async (): Promise<void> => {
    await end(child);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await ready(child);
  } catch (thrown) {
    await close();
    throw thrown;
  }
  const prefix = ['nsenter', '-t', String(firstProcess(child)), '-m', '-n', '-p', '--'];
  return {
    name: 'glusterfs',
    directory: join(mount, 'work'),
    prefix,
    cool: async () => {
      await settle(directory);
      await run([...prefix, 'umount', mount]);
      await run([...prefix, 'mount', '-t', 'glusterfs', `${ADDRESS}:/${VOLUME}`, mount]);
      dropCaches();
    },
    // The bricks lie on this machine: what they have not flushed is in its page cache.
    syncCommand: () => ['sync', '-f', directory],
    close,
  };
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((done, reject) => {
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (data: string) => {
      said = (said + data).slice(-2_000);
    });
    const fail = (how: string): void => {
      clearTimeout(timer);
      reject(new Error(`GlusterFS did not come up (${how}): ${said.trim()}`));
    };
    const timer = setTimeout(() => fail('timeout'), START_TIMEOUT_MS);
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code) => fail(`exit code ${code}`));
    if (child.stdout === null) return fail('no output');
    createInterface({ input: child.stdout }).once('line', () => {
      clearTimeout(timer);
      done();
    });
  });
}

/** The process that is 1 in the namespaces: unshare's only child. */
function firstProcess(child: ChildProcess): number {
  const path = `/proc/${child.pid}/task/${child.pid}/children`;
  return Number(readFileSync(path, 'utf8').trim().split(' ')[0]);
}

/** Lets the script unmount, then everything in the namespaces dies with it. */
function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
    return Promise.resolve();
  }
  return new Promise((done) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
    child.once('exit', () => {
      clearTimeout(timer);
      done();
    });
    child.stdin?.end();
  });
}
