/**
 * How the simulator composes the product, as src/cli composes it on real seams: a node's program is
 * DiskStores, a StorageNode, a NodeServer and its registration; an owner's is a LogOwner over
 * NodeClients and a directory.
 */
import { DiskStore } from '../../src/block/disk-store.js';
import { NodeServer } from '../../src/block/server.js';
import type { StorageNode } from '../../src/block/storage-node.js';
import { NodeClients } from '../../src/block/wire/client.js';
import type { Credentials } from '../../src/block/wire/handshake.js';
import type { Request } from '../../src/block/wire/messages.js';
import type { NodeRequests, ReplyHandler, RequestTarget } from '../../src/block/wire/requests.js';
import type { HoldfastError } from '../../src/core/errors.js';
import type { Incarnation, NodeId } from '../../src/core/ids.js';
import { PLACEMENT_GROUPS } from '../../src/core/limits.js';
import { GIB, MIB } from '../../src/core/units.js';
import type { Disk } from '../../src/io/disk.js';
import { type Log, silentLog } from '../../src/io/log.js';
import { MetadataConfirmations } from '../../src/metadata/confirmations.js';
import { DirectoryCache } from '../../src/metadata/directory-cache.js';
import { encodePlacement } from '../../src/metadata/encoding.js';
import { placementKey } from '../../src/metadata/keys.js';
import { METADATA_SCHEMA, type Replica } from '../../src/metadata/model.js';
import { NodeRegistration } from '../../src/metadata/nodes.js';
import { Controller } from '../../src/replication/controller.js';
import type { OwnerDeps } from '../../src/replication/owner-types.js';
import { Scrubber } from '../../src/replication/scrubber.js';
import type { SimProcess } from '../fixtures/sim-clock.js';
import type { SimRandom } from '../fixtures/sim-random.js';
import type { SimDrive, StorageMachine } from './machines.js';
import type { OwnerProcess } from './owner-process.js';
import type { World } from './world.js';

export const NODE_PORT = 7400;
const JOURNAL_BYTES = 4 * MIB;
/** Short, so that a node that is away is judged before a seed is over. */
const LEASE_TTL_SECONDS = 2;
const REPAIR_TIMES = {
  ...{ surveyMs: 700, inventoryMs: 2_000, retryMs: 300, quietMs: 1_500, settleMs: 2_000 },
};

const SCRUB_TIMES = { lookMs: 900, noteMs: 2_000, retryMs: 1_500 };

function credentials(world: World): Credentials {
  return { cluster: world.cluster, secret: Buffer.from('simulated secret') };
}

/** The product's own log lines, for transcripts. */
function logOf(world: World, who: string): Log {
  if (!world.transcribes) return silentLog;
  const write = (level: string) => (fields: Readonly<Record<string, unknown>>, message: string) => {
    world.note(() => `${who} ${level}: ${message} ${JSON.stringify(fields)}`);
  };
  return { info: write('info'), warn: write('warn'), error: write('error') };
}

export function formatDisk(
  world: World,
  machine: StorageMachine,
  disk: Disk,
  random: SimRandom,
  done: (error: HoldfastError | null, incarnation: Incarnation | null) => void,
): void {
  const identity = { cluster: world.cluster, node: machine.node, journalBytes: JOURNAL_BYTES };
  DiskStore.format(disk, identity, random, done);
}

/** A store for each drive, with what they need of the world. */
export function buildStores(
  world: World,
  machine: StorageMachine,
  process: SimProcess,
  random: SimRandom,
): { drive: SimDrive; store: DiskStore }[] {
  const store = world.metadata.attach(machine.name, process);
  const log = logOf(world, machine.name);
  const requests = new NodeClients({
    network: world.network.attach(machine.name, process),
    clock: process.clock,
    random: random.fork('clients'),
    credentials: credentials(world),
    identity: { role: 'node', id: machine.node },
  });
  const confirmations = new MetadataConfirmations(store, log);
  return machine.drives.map((drive, index) => ({
    drive,
    store: new DiskStore({
      disk: drive.medium.attach(process),
      clock: process.clock,
      random: random.fork(`store${index}`),
      log,
      confirmations,
      requests,
      cluster: world.cluster,
      node: machine.node,
      // Slices of two segments: snapshots of the index are taken while the disk goes on.
      limits: { reserveBytes: 0, indexSlice: 2, journalLapBytes: world.spec.journalLapBytes },
    }),
  }));
}

/** Opens the door and registers the node. */
export function serve(
  world: World,
  machine: StorageMachine,
  process: SimProcess,
  storage: StorageNode,
  random: SimRandom,
): void {
  const log = logOf(world, machine.name);
  // As a node's program does it: a disk that does not say which it is has none.
  const incarnations = () => storage.stats().map(({ incarnation }) => incarnation);
  const server = new NodeServer({
    network: world.network.attach(machine.name, process),
    clock: process.clock,
    random: random.fork('server'),
    log,
    credentials: credentials(world),
    node: machine.node,
    disks: incarnations,
    handler: {
      handle: (request, reply) => {
        storage.handle(request, (answer) => {
          world.nodeReplied(machine, request, answer);
          if (request.type === 'copy' && answer.status === 'OK') {
            world.injector.copied(machine, request.segment);
          }
          reply(answer);
        });
      },
    },
  });
  server.listen(machine.address, (error) => {
    if (error !== null) throw error;
  });
  register(world, machine, process, incarnations());
  const clients = new NodeClients({
    network: world.network.attach(machine.name, process),
    clock: process.clock,
    random: random.fork('controller clients'),
    credentials: credentials(world),
    identity: { role: 'node', id: machine.node },
  });
  new Controller({
    store: world.metadata.attach(machine.name, process),
    clock: process.clock,
    random: random.fork('controller'),
    log,
    requests: new ObservedRequests(world, clients),
    node: machine.node,
    times: REPAIR_TIMES,
    ttlSeconds: LEASE_TTL_SECONDS,
  }).start();
  scrub(world, machine, process, storage);
}

function register(
  world: World,
  machine: StorageMachine,
  process: SimProcess,
  disks: readonly Incarnation[],
): void {
  const registration = new NodeRegistration({
    store: world.metadata.attach(machine.name, process),
    clock: process.clock,
    log: logOf(world, machine.name),
    cluster: world.cluster,
    record: {
      schema: METADATA_SCHEMA,
      node: machine.node,
      address: machine.address,
      zone: machine.zone,
      disks: disks.map((incarnation) => ({ incarnation, capacityBytes: GIB })),
      version: 'sim',
    },
    ttlSeconds: LEASE_TTL_SECONDS,
    onChange: (registered) => {
      if (registered) machine.registered = disks;
    },
  });
  registration.start();
}

/** Verifies the node's own copies on a schedule. */
function scrub(
  world: World,
  machine: StorageMachine,
  process: SimProcess,
  storage: StorageNode,
): void {
  const scrubber = new Scrubber({
    store: world.metadata.attach(machine.name, process),
    clock: process.clock,
    log: logOf(world, machine.name),
    node: machine.node,
    disks: {
      incarnations: () =>
        storage
          .stats()
          .filter(({ state }) => state === 'ok' || state === 'full')
          .map(({ incarnation }) => incarnation),
      handle: (request, reply) => {
        storage.handle(request, (answer) => {
          if (request.type === 'copy') {
            world.hit(`scrub.copy.${answer.status}`);
            world.nodeReplied(machine, request, answer);
          } else if (request.type === 'read') world.hit(`scrub.read.${answer.status}`);
          reply(answer);
          world.scheduler.notePromise();
        });
      },
      takeRotten: (disk) => storage.takeRotten(disk),
    },
    times: SCRUB_TIMES,
  });
  scrubber.start();
}

/** What an owner sends passes the checkers first. */
class ObservedRequests implements NodeRequests {
  readonly #world: World;
  readonly #inner: NodeRequests;

  constructor(world: World, inner: NodeRequests) {
    this.#world = world;
    this.#inner = inner;
  }

  send(target: RequestTarget, request: Request, timeoutMs: number, done: ReplyHandler): void {
    this.#world.requestSent(request, target.node);
    this.#inner.send(target, request, timeoutMs, (error, reply) => {
      if (error !== null) {
        this.#world.hit(`request-error.${request.type}.${error.code}`);
        this.#world.note(() => `${request.type.toUpperCase()} has no answer: ${error.message}`);
      }
      done(error, reply);
    });
  }

  queuedBytes(node: NodeId): number {
    return this.#inner.queuedBytes(node);
  }

  close(): void {
    this.#inner.close();
  }
}

export function ownerDeps(world: World, owner: OwnerProcess): OwnerDeps {
  const { process, host, random } = owner;
  const store = world.metadata.attach(host, process);
  const log = logOf(world, owner.name);
  const clients = new NodeClients({
    network: world.network.attach(host, process),
    clock: process.clock,
    random: random.fork('clients'),
    credentials: credentials(world),
    identity: { role: 'owner', id: owner.id },
  });
  return {
    clock: process.clock,
    random: random.fork('owner'),
    requests: new ObservedRequests(world, clients),
    store,
    directory: new DirectoryCache({ store, clock: process.clock, log }),
    log,
  };
}

/**
 * The first placement, written by hand so that all can begin at once: groups of registered disks
 * on distinct nodes. From then on it is the controller's.
 */
export function writePlacement(world: World): void {
  const random = world.random.fork('placement');
  // A node whose only disk does not open has registered none.
  const usable = world.machines.filter(({ registered }) => (registered ?? []).length > 0);
  for (const replicas of new Set(world.volumes.map((volume) => volume.replicas))) {
    if (usable.length < replicas) continue;
    const groups: Replica[][] = [];
    for (let group = 0; group < PLACEMENT_GROUPS; group++) {
      const machines = random.shuffle([...usable]).slice(0, replicas);
      groups.push(
        machines.map((machine) => {
          const incarnation = random.pick(machine.registered ?? []);
          return { node: machine.node, incarnation };
        }),
      );
    }
    const value = encodePlacement({ schema: METADATA_SCHEMA, replicas, groups });
    world.server.transact([], [{ type: 'put', key: placementKey(replicas), value }]);
  }
}
