/**
 * Purges volumes whose time in the trash is over, on the node that leads (controller.ts), for the
 * whole cluster.
 *
 * INVARIANT: no volume expires by one clock alone: most of the registered nodes must answer, and
 * all clocks that are known, this one among them, must say that its time is over.
 */
import { NODE_STATUS, type Reply } from '../block/wire/messages.js';
import type { NodeRequests } from '../block/wire/requests.js';
import { HoldfastError } from '../core/errors.js';
import { REQUEST_TIMEOUT_MS } from '../core/limits.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { Random } from '../io/random.js';
import { DirectoryCache } from '../metadata/directory-cache.js';
import type { LeaderElection } from '../metadata/leader.js';
import type { VolumeFacts } from '../metadata/model.js';
import { listNodes } from '../metadata/nodes.js';
import type { MetadataStore } from '../metadata/store.js';
import { isExpired, VolumeTrash } from '../metadata/trash.js';
import { Volumes } from '../metadata/volumes.js';
import { purgeVolume } from './purge.js';

const INTERVAL_MS = 15_000;
const PURGE_TIMEOUT_MS = 30_000;

export interface TrashExpiryOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly requests: NodeRequests;
  readonly election: LeaderElection;
}

export class TrashExpiry {
  readonly #options: TrashExpiryOptions;
  readonly #trash: VolumeTrash;
  #directory: DirectoryCache | null = null;
  #timer: Timer | null = null;
  #working: Promise<void> | null = null;
  #isStopped = false;

  constructor(options: TrashExpiryOptions) {
    this.#options = options;
    const { store, clock, random } = options;
    this.#trash = new VolumeTrash(store, clock, new Volumes(store, clock, random));
  }

  /** To be told whenever this node begins or ceases to lead. */
  lead(leading: boolean): void {
    if (leading && !this.#isStopped) this.#schedule(0);
    else this.#timer?.cancel();
  }

  /** A purge under way is ended by whoever leads next. */
  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    this.#directory?.close();
  }

  #schedule(ms: number): void {
    if (this.#isStopped) return;
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(ms, () => {
      if (this.#working !== null) return; // it schedules the next turn itself
      this.#working = this.#turn().finally(() => {
        this.#working = null;
        if (this.#options.election.leading) this.#schedule(INTERVAL_MS);
      });
    });
  }

  async #turn(): Promise<void> {
    const { log, clock } = this.#options;
    try {
      const removed = (await this.#trash.list()).map(({ record }) => record);
      if (!removed.some((record) => isExpired(record, clock.wall()))) return;
      const now = await agreedTime(this.#options);
      if (now === null) {
        log.warn({}, 'Too few nodes tell their time: nothing in the trash expires now.');
        return;
      }
      for (const record of removed) {
        if (isExpired(record, now)) await this.#purge(record, now);
      }
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      if (this.#isStopped) return;
      const { code, message } = thrown;
      log.warn({ code, error: message }, 'The trash could not be looked through; trying again.');
    }
  }

  async #purge({ volume, name }: VolumeFacts, wallMs: number): Promise<void> {
    const { log } = this.#options;
    const directory = await this.#known();
    if (!this.#options.election.leading) return;
    const guard = [this.#options.election.guard];
    const parts = { ...this.#options, trash: this.#trash, directory };
    const timeoutMs = PURGE_TIMEOUT_MS;
    try {
      const outcome = await purgeVolume(parts, volume, { timeoutMs, guard, wallMs });
      log.info({ volume, name, ...outcome }, 'The time of a removed volume was over.');
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError) || this.#isStopped) throw thrown;
      const { code, message } = thrown;
      log.warn({ volume, name, code, error: message }, 'A removed volume was not purged.');
    }
  }

  #known(): Promise<DirectoryCache> {
    const { store, clock, log } = this.#options;
    if (this.#directory?.ready === true) return Promise.resolve(this.#directory);
    this.#directory?.close();
    return new Promise((resolve) => {
      const onReady = (): void => clock.soon(() => resolve(directory));
      const directory: DirectoryCache = new DirectoryCache({ store, clock, log, onReady });
      this.#directory = directory;
    });
  }
}

/** The earliest that a clock says, ours among them; null when too few nodes answer. */
export async function agreedTime({
  store,
  clock,
  requests,
}: Pick<TrashExpiryOptions, 'store' | 'clock' | 'requests'>): Promise<number | null> {
  const nodes = await listNodes(store);
  const asked = nodes.map(({ node, address }) => {
    return new Promise<number | null>((resolve) => {
      const told = (_: unknown, reply: Reply | null): void => {
        resolve(reply?.body?.type === 'status' ? reply.body.wallMs : null);
      };
      requests.send({ node, address }, NODE_STATUS, REQUEST_TIMEOUT_MS, told);
    });
  });
  const told = (await Promise.all(asked)).filter((wallMs) => wallMs !== null);
  return told.length * 2 > nodes.length ? Math.min(clock.wall(), ...told) : null;
}
