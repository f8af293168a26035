/** What `holdfast up` says once everything runs: what there is, and what to try. */
import { relative, resolve } from 'node:path';
import { formatSize } from '../core/sizes.js';
import type { DirectoryCache } from '../metadata/directory-cache.js';
import type { VolumeHead } from '../metadata/model.js';
import { table } from './text.js';
import { DEMO, DEMO_LOG, type Running } from './up-cluster.js';
import { UP_DIRECTORY } from './up-file.js';
import type { DemoMount } from './up-mount.js';
import type { Proof } from './up-proof.js';
import { volumeTable } from './volume.js';

export interface Shown {
  readonly nodes: DirectoryCache;
  readonly records: readonly VolumeHead[];
  readonly proof: Proof;
  readonly mount: DemoMount;
  readonly detached: boolean | undefined;
}

export function report(running: Running, shown: Shown): string {
  const { cluster, directory, metadata } = running;
  const { records, proof, mount, detached } = shown;
  const commit = proof.commitMs.toFixed(1);
  const mounted =
    mount.type === 'mounted'
      ? `Volume "${DEMO}" is mounted at ${mount.directory}.`
      : `Volume "${DEMO}" is not mounted: ${mount.why.replace(/\.$/, '')}.`;
  const end = detached === true ? `${program()} down${option(directory)}` : 'Ctrl-C';
  return `
holdfast is up: cluster ${cluster.slice(0, 8)}, data in ${directory}, metadata in ${metadata}

${nodeTable(running, shown.nodes)}

${volumeTable(records)}

It works: ${proof.records} records with 4 KiB each were committed to "${DEMO_LOG}",
${commit} ms each, read back from the nodes and verified.
${mounted}

To try next, in another terminal, in this directory:
${suggestions(running, mount)
  .map((line) => `  ${line}`)
  .join('\n')}

${end} stops everything; the data stays.
`;
}

/** "npm start" and npx run a program that the shell does not find. */
function program(): string {
  return process.env.npm_command === undefined ? 'holdfast' : 'npx holdfast';
}

function option(directory: string): string {
  return directory === resolve(UP_DIRECTORY) ? '' : ` --data-dir ${directory}`;
}

function suggestions({ children, directory }: Running, mount: DemoMount): string[] {
  const [name, at] = [program(), option(directory)];
  const victim = children[0]?.pid ?? 'PID';
  const common = [
    `${name} status${at}`,
    `${name} doctor${at}`,
    `echo hello | ${name} log append ${DEMO_LOG}${at}`,
    `${name} log read ${DEMO_LOG}${at}`,
  ];
  const kill = `kill -9 ${victim}        # a node dies: reading and writing goes on without it`;
  if (mount.type === 'none') return [...common, kill];
  const near = relative(process.cwd(), mount.directory);
  const where = near === '' || near.startsWith('..') ? mount.directory : near;
  return [
    `echo hello > ${where}/hello && cat ${where}/hello && df -h ${where}`,
    `${name} mounts`,
    ...common,
    kill,
  ];
}

function nodeTable({ children }: Running, nodes: DirectoryCache): string {
  const rows = children.map((child, n) => {
    const record = nodes.nodes().find(({ address }) => address === child.address);
    const bytes = record?.disks.reduce((sum, { capacityBytes }) => sum + capacityBytes, 0) ?? 0;
    const id = record?.node.slice(0, 8) ?? '-';
    return [`node-${n + 1}`, id, child.address ?? '-', formatSize(bytes), String(child.pid ?? '-')];
  });
  return table(['', 'NODE', 'ADDRESS', 'CAPACITY', 'PID'], rows);
}
