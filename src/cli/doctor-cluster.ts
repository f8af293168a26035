/** What a cluster must have: a metadata store that keeps up, nodes, right clocks, room, copies. */
import { statfsSync } from 'node:fs';
import type { DiskStatus } from '../block/wire/messages.js';
import type { ClusterId } from '../core/ids.js';
import { formatSize } from '../core/sizes.js';
import { parseAddress } from '../io/address.js';
import { CLUSTER_KEY } from '../metadata/keys.js';
import type { MemberHealth, MetadataStore } from '../metadata/store.js';
import { type Finding, note, ok, problem } from './findings.js';
import { wrongSecret } from './node-secret.js';
import type { Session } from './session.js';
import {
  allNodeFaults,
  isSecretWrong,
  type NodeState,
  nodeName,
  type Survey,
  survey,
  volumeProblems,
} from './survey.js';
import { programVersion } from './version.js';

const LATENCY_TRIES = 5;
/** A volume waits for the store only to roll and to be taken over; slower ones miss leases. */
const LATENCY_MAX_MS = 250;
/** Leases and certificates bear a second; what is kept "until" a time does not bear minutes. */
const SKEW_MAX_MS = 1_000;
const DISK_LEAST_FREE = 0.05;
const STORE_MOST_USED = 0.8;
/** etcd's, when nobody set another. */
const QUOTA_DEFAULT_BYTES = 2 * 1024 ** 3;
const STORE_LEAST_FREE_BYTES = 256 * 1024 ** 2;

export async function checkClusterOf(session: Session): Promise<Finding[]> {
  const found = await survey(session);
  const ofStore = [await checkLatency(session), ...(await checkMembers(session.store))];
  if (isSecretWrong(found.nodes)) {
    const { message, hint = '' } = wrongSecret();
    return [...ofStore, problem('secret', message, hint)];
  }
  return [
    ...ofStore,
    ...checkNodes(found.nodes),
    ...checkClocks(found.nodes),
    ...checkDisks(found.nodes),
    ...checkVersions(found.nodes, programVersion()),
    ...checkVolumes(found, session.cluster.cluster),
  ];
}

async function checkLatency({ store, clock }: Session): Promise<Finding> {
  const times: number[] = [];
  for (let i = 0; i < LATENCY_TRIES; i++) {
    const start = clock.monotonic();
    await store.get(CLUSTER_KEY);
    times.push(clock.monotonic() - start);
  }
  const typical = times.sort((a, b) => a - b)[Math.floor(LATENCY_TRIES / 2)] ?? 0;
  const message = `${store.name} answers in ${typical.toFixed(1)} ms`;
  if (typical <= LATENCY_MAX_MS) return ok('metadata', message);
  const advice = 'Give etcd a fast disk of its own, near the nodes.';
  return problem('metadata', `${message}: takeovers are slow and leases run out`, advice);
}

async function checkMembers(store: MetadataStore): Promise<Finding[]> {
  if (store.members !== undefined) return (await store.members()).flatMap(checkMember);
  const directory = /^embedded:(.+)$/.exec(store.name)?.[1];
  if (directory === undefined) return [];
  const { bavail, bsize } = statfsSync(directory);
  const free = formatSize(bavail * bsize);
  if (bavail * bsize >= STORE_LEAST_FREE_BYTES) return [ok('metadata disk', `${free} free`)];
  return [problem('metadata disk', `${directory} has ${free} left`, 'Free space on its disk.')];
}

export function checkMember(member: MemberHealth): Finding[] {
  const { name, fault, version, hasLeader, usedBytes, quotaBytes, alarms } = member;
  const check = `etcd ${name}`;
  if (fault !== null) {
    const advice = 'Start this member; while most of them run, the store works.';
    return [problem(check, `does not answer: ${fault}`, advice)];
  }
  const found: Finding[] = [];
  if (!hasLeader) {
    found.push(problem(check, 'has no leader', 'Start more members, or mend their network.'));
  }
  for (const alarm of alarms) {
    const advice = /NOSPACE/.test(alarm)
      ? 'Compact and defragment it, raise --quota-backend-bytes, then "etcdctl alarm disarm".'
      : 'See "etcdctl alarm list" and the documentation of etcd.';
    found.push(problem(check, `alarm: ${alarm}`, advice));
  }
  const quota = quotaBytes ?? QUOTA_DEFAULT_BYTES;
  if (usedBytes > quota * STORE_MOST_USED) {
    const used = `${formatSize(usedBytes)} of ${formatSize(quota)} are used`;
    found.push(problem(check, used, 'Compact and defragment it, or raise its quota.'));
  }
  if (!/^3\.([4-9]|\d\d)/.test(version)) {
    found.push(problem(check, `version ${version} is not supported`, 'Use etcd 3.4 or newer.'));
  }
  if (found.length > 0) return found;
  return [ok(check, `version ${version}, ${formatSize(usedBytes)} used`)];
}

export function checkNodes(nodes: readonly NodeState[]): Finding[] {
  const bad = allNodeFaults(nodes).map((one) => problem('nodes', one.message, one.advice));
  return bad.length > 0 ? bad : [ok('nodes', `${nodes.length} are registered and answer`)];
}

export function checkClocks(nodes: readonly NodeState[]): Finding[] {
  const known = nodes.filter(({ clock }) => clock !== null);
  const bad = known.flatMap(({ record, clock }) => {
    const { aheadMs, errorMs } = clock as NonNullable<NodeState['clock']>;
    if (Math.abs(aheadMs) - errorMs <= SKEW_MAX_MS) return [];
    const by = `${Math.abs(aheadMs / 1000).toFixed(1)} s ${aheadMs > 0 ? 'ahead of' : 'behind'}`;
    const advice = 'Let chrony or systemd-timesyncd set the clocks of all machines.';
    return [problem('clocks', `${nodeName(record)} is ${by} this machine`, advice)];
  });
  if (known.length === 0) return [note('clocks', 'no node tells its time')];
  return bad.length > 0 ? bad : [ok('clocks', `${known.length} nodes agree with this machine`)];
}

interface KnownDisk extends DiskStatus {
  readonly node: NodeState;
}

export function checkDisks(nodes: readonly NodeState[]): Finding[] {
  const disks = nodes.flatMap((node): KnownDisk[] =>
    (node.disks ?? []).map((disk) => ({ ...disk, node })),
  );
  const full = disks
    .filter(({ totalBytes, freeBytes }) => freeBytes < totalBytes * DISK_LEAST_FREE)
    .map(({ node, incarnation, freeBytes }) => {
      const name = `${nodeName(node.record)}: disk ${incarnation.slice(0, 8)}`;
      const advice = 'Remove or purge volumes, add nodes, or free what else stands on it.';
      return problem('disks', `${name} has ${formatSize(freeBytes)} left`, advice);
    });
  if (disks.length === 0) return [note('disks', 'no node tells of its disks')];
  const all = [...full, ...sharedDisks(disks)];
  return all.length > 0 ? all : [ok('disks', `${disks.length}, none nearly full`)];
}

/** Disks of one machine with the very same size and free space are directories of one. */
function sharedDisks(disks: readonly KnownDisk[]): Finding[] {
  const groups = new Map<string, KnownDisk[]>();
  for (const disk of disks) {
    const { host } = parseAddress(disk.node.record.address);
    // Free space changes between two answers.
    const key = `${host} ${disk.totalBytes} ${Math.round(disk.freeBytes / 2 ** 28)}`;
    groups.set(key, [...(groups.get(key) ?? []), disk]);
  }
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined || group.length < 2) return [];
    const { host } = parseAddress(first.node.record.address);
    // Disks of a size that balance keeps evenly filled look the same: it may be, and no more.
    const message = `${group.length} on ${host} look like one file system, counted each time`;
    if (/^(127\.|localhost$|::1$|\[::1\]$)/.test(host)) {
      return [note('disks', message, 'Right for trying things out; one disk is one copy.')];
    }
    return [note('disks', message, 'If they are: give each --data-dir a disk of its own.')];
  });
}

export function checkVersions(nodes: readonly NodeState[], ours: string): Finding[] {
  const all = [...new Set([ours, ...nodes.map(({ record }) => record.version)])].sort();
  if (all.length === 1) return [ok('versions', `all are ${ours}`)];
  const advice = 'Fine during an upgrade; else upgrade the rest.';
  return [note('versions', `here and on nodes: ${all.join(', ')}`, advice)];
}

function checkVolumes(found: Survey, cluster: ClusterId): Finding[] {
  const advice = 'Bring the nodes back that do not answer; repair needs them or others in place.';
  const { unusable } = found;
  const ofNodes = volumeProblems({ ...found, unusable: [] });
  const asked = found.nodes.map(({ record }) => `--node ${record.address}`).join(' ');
  const rebuild = `holdfast metadata rebuild --cluster ${cluster} ${asked} --dry-run`;
  const lookAt = `See what the nodes have: "${rebuild}".`;
  const bad = [
    ...unusable.map((message) => problem('volumes', message, lookAt)),
    ...ofNodes.map((message) => problem('volumes', message, advice)),
  ];
  return bad.length > 0 ? bad : [ok('volumes', `${found.volumes.length}, all with their copies`)];
}
