/** A mount's numbers for Prometheus, gathered only when somebody asks. */
import { Registry } from 'prom-client';
import { nodeClock } from '../io/node/clock.js';
import type { ProcessVitals } from '../io/node/process.js';
import type { LiveStatus } from '../lifecycle/mount-types.js';
import { addProcess, counter, gauge, type Metrics } from './metrics.js';

export interface MountNumbers {
  readonly volume: string;
  readonly directory: string;
  readonly status: () => LiveStatus;
  readonly vitals: () => ProcessVitals;
}

export function createMountMetrics(numbers: MountNumbers): Metrics {
  const { volume, directory, status } = numbers;
  const registry = new Registry();
  registry.setDefaultLabels({ volume, directory });
  const each = (name: string, help: string, value: (now: LiveStatus) => number): void =>
    gauge(registry, `mount_${name}`, help, () => value(status()));
  each('serving', '1 while the volume is served', ({ phase }) => (phase === 'mounted' ? 1 : 0));
  each('size_bytes', 'What it may hold', (now) => now.sizeBytes);
  each('used_bytes', 'What it holds', (now) => now.usedBytes);
  each('files', 'Inodes', (now) => now.files);
  each('dirty_bytes', 'Changes that are not yet on stable storage', (now) => now.dirtyBytes);
  each('epoch', 'Rises at each takeover', (now) => now.epoch);
  each('lease_held', '1 while answers from memory are current', (now) => (now.leaseHeld ? 1 : 0));
  const waited = 'For how long its users have waited for nodes; 0 while they do not';
  each('waiting_seconds', waited, ({ waitingSince }) =>
    waitingSince === null ? 0 : Math.max(0, (nodeClock.wall() - Date.parse(waitingSince)) / 1000),
  );
  each('last_commit_seconds', 'Since 1970', ({ lastCommit }) =>
    lastCommit === null ? 0 : Date.parse(lastCommit) / 1000,
  );
  const localReads = 'Pages read from files of nodes on this machine, without the nodes';
  counter(registry, 'mount_local_read_pages_total', localReads, () => status().localReadPages);
  addProcess(registry, numbers);
  return { contentType: registry.contentType, read: () => registry.metrics() };
}
