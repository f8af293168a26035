/**
 * A power cut right after `holdfast up` said that it is ready: what it made for itself (the secret,
 * up.json, the embedded metadata, the nodes' disks) must be there, not empty files of the right
 * names. See fixtures/cut-images.ts for how a cut is made.
 */
import { join } from 'node:path';
import t from 'tap';
import { CutImages } from '../fixtures/cut-images.js';
import { endAll, holdfastBin, type Process, startNode, untilGone } from '../fixtures/processes.js';

t.setTimeout(400_000);

const READY_MS = 90_000;
const IMAGE_MIB = 1_024;
const CUTS = 2;

interface Ready {
  readonly cluster: string;
  readonly nodes: readonly { readonly pid: number }[];
}

async function startUp(directory: string): Promise<{ up: Process; ready: Ready }> {
  const up = startNode(holdfastBin, ['up', '--data-dir', directory, '--json', '--no-mount']);
  return { up, ready: JSON.parse(await up.line(/^\{/, READY_MS)) as Ready };
}

t.test('a cluster of holdfast up is there after a power cut', async (t) => {
  const images = await CutImages.create(['all'], IMAGE_MIB);
  t.teardown(async () => {
    await endAll();
    await images.close();
  });
  let directory = join(images.live('all'), 'data');
  let first: string | null = null;
  for (let cut = 0; cut <= CUTS; cut++) {
    const { up, ready } = await startUp(directory);
    first ??= ready.cluster;
    t.equal(ready.cluster, first, 'the same cluster');
    if (cut === CUTS) {
      t.equal(await up.stop(30_000), 0);
      return;
    }
    const pids = [up.pid, ...ready.nodes.map(({ pid }) => pid)];
    const open = await images.cut(pids);
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await untilGone(pids);
    directory = join((await open())('all'), 'data');
  }
});
