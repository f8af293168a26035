/**
 * `holdfast scrub`: has nodes read and verify every page of their sealed copies, at a bounded rate.
 * What does not verify is fetched from other replicas and written again, by the COPY that repair
 * uses: of a copy that is whole it reads all and changes nothing.
 */
import type { Command } from 'commander';
import { HoldfastError, invalid } from '../core/errors.js';
import { COPY_TIMEOUT_MS } from '../core/limits.js';
import { formatSize, parseSize } from '../core/sizes.js';
import type { Replica, SealedSegment, VolumeRecord } from '../metadata/model.js';
import { copyRequest } from '../replication/copy-request.js';
import type { Directory } from '../replication/directory.js';
import { Pace } from '../replication/pace.js';
import { meaningOf } from '../replication/scrubber.js';
import { EXIT_PROBLEMS } from './errors.js';
import { findNode } from './node-admin.js';
import { allVolumes } from './node-holdings.js';
import { checkSession } from './node-secret.js';
import { addExamples, printResult, showProgress } from './output.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';

interface ScrubOptions extends SessionOptions {
  readonly node?: string;
  readonly rate: string;
}

interface Task {
  readonly volume: VolumeRecord;
  readonly sealed: SealedSegment;
  readonly replica: Replica;
}

/** What was not verified, and why. */
interface Failure {
  readonly volume: string;
  readonly segment: string;
  readonly node: string;
  readonly reason: string;
}

/** A copy that something is done with just now is tried again this often. */
const BUSY_TRIES = 5;
const BUSY_MS = 2_000;

export function addScrubCommand(program: Command): void {
  const command = sessionOptions(program.command('scrub [volume]'))
    .description('verify every page of every sealed copy, and repair what is rotten')
    .option('--node <node>', 'only the copies on this node')
    .option('--rate <size>', 'bytes a second, of all nodes together', '64MiB')
    .action((volume: string | undefined, options: ScrubOptions) => scrub(volume, options));
  addExamples(command, [
    ['Everything', 'holdfast scrub'],
    ['One volume, fast', 'holdfast scrub db --rate 500MiB'],
    ['A disk that is not trusted', 'holdfast scrub --node 3fa9c1d2'],
  ]);
}

async function scrub(volume: string | undefined, options: ScrubOptions): Promise<void> {
  const rate = parseSize(options.rate, '--rate');
  if (rate === 0) throw invalid('--rate 0: nothing would be read');
  await Session.run(options, async (session) => {
    const directory = await session.directory();
    const all = await allVolumes(session);
    const volumes = all.filter((one) => volume === undefined || one.name === volume);
    if (volume !== undefined && volumes.length === 0) {
      throw new HoldfastError('NOT_FOUND', `no volume is named "${volume}"`);
    }
    await checkSession(session);
    const on = options.node === undefined ? null : findNode(directory.nodes(), options.node).node;
    const tasks = volumes.flatMap((record) =>
      record.sealed.flatMap((sealed) =>
        sealed.replicas
          .filter(({ node }) => on === null || node === on)
          .map((replica): Task => ({ volume: record, sealed, replica })),
      ),
    );
    const pace = new Pace(session.clock);
    pace.setRate(rate);
    const progress = showProgress(options);
    const failures: Failure[] = [];
    let bytes = 0;
    for (const [index, task] of tasks.entries()) {
      await pace.take(task.sealed.end);
      progress.say(`${index} of ${tasks.length} copies, ${formatSize(bytes)}`);
      const reason = await verified(session, directory, task);
      if (reason === null) {
        bytes += task.sealed.end;
        continue;
      }
      const { name } = task.volume;
      failures.push({
        volume: name,
        segment: task.sealed.segment,
        node: task.replica.node,
        reason,
      });
    }
    progress.end();
    const copies = tasks.length - failures.length;
    const lines = failures.map(({ volume: name, segment, node, reason }) => {
      return `! volume ${name}: segment ${segment} on node ${node.slice(0, 8)}: ${reason}`;
    });
    const text = [`${copies} copies are good (${formatSize(bytes)})`, ...lines].join('\n');
    printResult(options.json === true, { copies, bytes, failures }, text);
    if (failures.length > 0) process.exitCode = EXIT_PROBLEMS;
  });
}

/** Null when the copy is good now; else why it is not known to be. */
async function verified(
  session: Session,
  directory: Directory,
  { volume: { volume }, sealed, replica }: Task,
): Promise<string | null> {
  const { node, incarnation } = replica;
  const address = directory.address(node);
  if (address === null) return 'its node is not known';
  const request = copyRequest(volume, sealed, incarnation, (id) => directory.address(id));
  for (let tries = 1; ; tries++) {
    const [error, status] = await new Promise<[string | null, string]>((resolve) => {
      session.clients.send({ node, address }, request, COPY_TIMEOUT_MS, (fault, reply) => {
        resolve([fault?.message ?? null, reply?.status ?? '']);
      });
    });
    if (status === 'OK') return null;
    // Deleted or moved since it was listed: nothing that anybody would miss.
    if (status === 'UNCONFIRMED' && !(await isListed(session, volume, replica, sealed.segment)))
      return null;
    if (status !== 'BUSY' || tries === BUSY_TRIES) return error ?? meaningOf(status);
    await new Promise<void>((resolve) => session.clock.after(BUSY_MS, resolve));
  }
}

async function isListed(
  { volumes }: Session,
  volume: VolumeRecord['volume'],
  { incarnation }: Replica,
  segment: SealedSegment['segment'],
): Promise<boolean> {
  const sealed = (await volumes.get(volume))?.record.sealed.find((one) => one.segment === segment);
  return sealed?.replicas.some((one) => one.incarnation === incarnation) === true;
}
