/**
 * `holdfast cluster`: makes a cluster in an empty metadata store, once, before its first node
 * starts, and shows which cluster a store holds. Never done implicitly: a store that answers
 * "empty" after a loss must not become a new cluster beside the data of the old one.
 */
import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { HoldfastError, invalid } from '../core/errors.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import { initCluster, readCluster } from '../metadata/cluster.js';
import type { ClusterRecord } from '../metadata/model.js';
import { listNodes } from '../metadata/nodes.js';
import { openMetadata } from '../metadata/open.js';
import { addClusterSetCommand } from './cluster-set.js';
import { createDurably } from './durable-file.js';
import { addExamples, printResult } from './output.js';
import { loadSecret } from './secret.js';
import { locate, Session, type SessionOptions, sessionOptions } from './session.js';

const SECRET_BYTES = 32;

export function addClusterCommands(program: Command): void {
  const cluster = program.command('cluster').description('make a cluster, and show which it is');
  const init = sessionOptions(cluster.command('init'))
    .description('make a cluster in an empty metadata store, and its secret')
    .action((options: SessionOptions) => initialise(options));
  addExamples(init, [
    [
      'Once, before the first node; then copy the secret to every machine',
      'holdfast cluster init --metadata etcd://10.0.0.1:2379 --secret-file /etc/holdfast/secret',
    ],
  ]);
  const show = sessionOptions(cluster.command('show'))
    .description('show which cluster the metadata store holds')
    .action((options: SessionOptions) =>
      Session.run(options, async (session) => print(options, session.cluster, session.store.name)),
    );
  addExamples(show, [['Its id and age', 'holdfast cluster show --metadata etcd://10.0.0.1:2379']]);
  addClusterSetCommand(cluster);
}

/** Makes the secret first: a cluster whose secret could not be kept would be of no use. */
async function initialise(options: SessionOptions): Promise<void> {
  const { metadata, secretFile } = locate(options, process.env);
  if (secretFile === null) {
    throw invalid('no file for the secret is named', 'Name one: --secret-file FILE.');
  }
  const parts = { clock: nodeClock, random: nodeRandom, env: process.env };
  const store = await openMetadata(metadata, parts);
  try {
    await refuseExisting(store);
    if (!existsSync(secretFile)) {
      const secret = Buffer.from(nodeRandom.bytes(SECRET_BYTES)).toString('hex');
      writeSecret(secretFile, `${secret}\n`);
    }
    loadSecret(secretFile, {}); // one that was there already may be of no use
    print(options, await initCluster(store, nodeClock, nodeRandom), store.name);
    const next = `Copy ${secretFile} to every machine, readable by root only.`;
    if (options.json !== true) process.stdout.write(`${next} Then start "holdfast node" there.\n`);
  } finally {
    await store.close();
  }
}

async function refuseExisting(store: Parameters<typeof readCluster>[0]): Promise<void> {
  const existing = await readCluster(store).catch((thrown) => {
    if (thrown instanceof HoldfastError && thrown.code === 'NOT_FOUND') return null;
    throw thrown;
  });
  if (existing === null) return refuseLost(store);
  const message = `${store.name} holds cluster ${existing.cluster} already`;
  const hint = 'Use it as it is, or name another metadata store.';
  throw new HoldfastError('ALREADY_EXISTS', message, { hint });
}

/** Nodes register only in a cluster, and again in its store when that was emptied. */
async function refuseLost(store: Parameters<typeof readCluster>[0]): Promise<void> {
  const nodes = await listNodes(store);
  if (nodes.length === 0) return;
  const addresses = nodes.map(({ address }) => address).join(', ');
  const message = `${store.name} has lost its cluster: nodes with data run at ${addresses}`;
  const hint = 'Put it back: "holdfast metadata import" or "holdfast metadata rebuild".';
  throw new HoldfastError('CONFLICT', message, { hint });
}

function writeSecret(file: string, text: string): void {
  try {
    createDurably(file, text);
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    throw invalid(`the secret cannot be written to ${file}: ${code}`, 'Make its directory first.');
  }
}

function print(options: SessionOptions, record: ClusterRecord, metadata: string): void {
  const { cluster, generation, createdAt } = record;
  const text = `cluster ${cluster}, generation ${generation}, of ${createdAt}, in ${metadata}`;
  printResult(options.json === true, { ...record, metadata }, text);
}
