/**
 * A node's tie to the metadata store. A node with formatted disks serves without it: the store is
 * opened in the background for as long as that takes, and what needs it (SEAL, COPY, DELETE,
 * registration) waits.
 */
import type { NodeRequests } from '../block/wire/requests.js';
import type { Confirmations } from '../core/confirmations.js';
import { asFault, HoldfastError } from '../core/errors.js';
import type { ClusterId } from '../core/ids.js';
import { RECONNECT_MAX_MS } from '../core/limits.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { Random } from '../io/random.js';
import { MetadataConfirmations } from '../metadata/confirmations.js';
import type { NodeRecord } from '../metadata/model.js';
import { NodeRegistration } from '../metadata/nodes.js';
import { openMetadata } from '../metadata/open.js';
import type { MetadataStore } from '../metadata/store.js';
import { Controller } from '../replication/controller.js';
import { updatePlacement } from '../replication/placement-table.js';
import type { RepairNumbers } from '../replication/repair.js';
import { type ScrubbedDisks, Scrubber, type ScrubNumbers } from '../replication/scrubber.js';
import type { Environment } from './config.js';

const RETRY_PLACEMENT_MS = 2_000;

export interface NodeMetadataOptions {
  readonly url: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly env: Environment;
  /** Looks at a store that was just opened; throws when it is not the node's own cluster's. */
  readonly check: (store: MetadataStore) => Promise<void>;
}

/** What a node needs to be one of its cluster's. */
export interface Membership {
  readonly record: NodeRecord;
  readonly cluster: ClusterId;
  /** For asking other nodes. */
  readonly requests: NodeRequests;
  /** Its own, to be verified on a schedule. */
  readonly disks: ScrubbedDisks;
}

export class NodeMetadata {
  readonly #options: NodeMetadataOptions;
  #store: MetadataStore | null = null;
  #asked: MetadataConfirmations | null = null;
  #toRegister: Membership | null = null;
  #registration: NodeRegistration | null = null;
  #controller: Controller | null = null;
  #scrubber: Scrubber | null = null;
  #timer: Timer | null = null;
  #isClosed = false;

  constructor(options: NodeMetadataOptions) {
    this.#options = options;
  }

  /** Answers 'unavailable' until the store is open. */
  readonly confirmations: Confirmations = {
    sealed: (volume, segment, end, crc, done) => {
      if (this.#asked === null) this.#unavailable(done);
      else this.#asked.sealed(volume, segment, end, crc, done);
    },
    copyable: (wanted, done) => {
      if (this.#asked === null) this.#unavailable(done);
      else this.#asked.copyable(wanted, done);
    },
    droppable: (volume, segment, incarnation, done) => {
      if (this.#asked === null) this.#unavailable(done);
      else this.#asked.droppable(volume, segment, incarnation, done);
    },
    deletable: (volume, segment, revision, done) => {
      if (this.#asked === null) this.#unavailable(done);
      else this.#asked.deletable(volume, segment, revision, done);
    },
  };

  get isRegistered(): boolean {
    return this.#registration?.registered ?? false;
  }

  /** Of repair; null while another node leads. */
  get repair(): RepairNumbers | null {
    return this.#controller?.numbers ?? null;
  }

  /** Of scrub, a disk each. */
  get scrub(): readonly ScrubNumbers[] {
    return this.#scrubber?.numbers() ?? [];
  }

  /** Opens and checks the store once. Rejects with what is wrong. */
  async open(): Promise<void> {
    const { url, clock, random, env, check, log } = this.#options;
    const store = await openMetadata(url, { clock, random, env });
    try {
      await check(store);
    } catch (thrown) {
      await store.close();
      throw thrown;
    }
    if (this.#isClosed) {
      await store.close();
      return;
    }
    this.#store = store;
    this.#asked = new MetadataConfirmations(store, log);
    if (this.#toRegister !== null) this.#startRegistration(store, this.#toRegister);
  }

  /** Looks at the store, if it is open. */
  async look(check: (store: MetadataStore) => Promise<void>): Promise<void> {
    if (this.#store !== null) await check(this.#store);
  }

  /** Goes on trying to open the store until it is open or this is closed. */
  keepOpening(): void {
    if (this.#isClosed || this.#store !== null) return;
    this.#timer = this.#options.clock.after(RECONNECT_MAX_MS, () => {
      this.open().catch((thrown) => {
        if (!(thrown instanceof HoldfastError)) throw thrown;
        this.warn(thrown);
        this.keepOpening();
      });
    });
  }

  /** Tells the operator once an attempt that the store cannot be used. */
  warn(error: HoldfastError): void {
    const { code, message } = error;
    this.#options.log.warn({ code, error: message }, 'The metadata store cannot be used yet.');
  }

  /**
   * Registers the node as soon as the store is open, and keeps it registered. From then on it is
   * also a candidate for what one node does for the whole cluster.
   */
  register(membership: Membership): void {
    this.#toRegister = membership;
    if (this.#store !== null) this.#startRegistration(this.#store, this.#toRegister);
  }

  /** Tells the store that this node stops, for so long; then what waits for the store fails. */
  async close(patienceMs: number): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    const parts = [this.#controller, this.#registration, this.#scrubber];
    const told = Promise.all(parts.map((part) => part?.stop()));
    await new Promise<void>((resolve) => {
      const late = this.#options.clock.after(patienceMs, resolve);
      void told.finally(() => {
        late.cancel();
        resolve();
      });
    });
    await this.#store?.close();
  }

  #unavailable(done: (answer: 'unavailable') => void): void {
    this.#options.clock.soon(() => done('unavailable'));
  }

  #startRegistration(store: MetadataStore, membership: Membership): void {
    const { record, cluster, requests, disks } = membership;
    const { clock, random, log } = this.#options;
    const onChange = (registered: boolean): void => {
      log.info({ node: record.node, registered }, 'The registration of this node has changed.');
      if (registered) this.#place(store);
    };
    this.#registration = new NodeRegistration({ store, clock, log, record, cluster, onChange });
    this.#registration.start();
    this.#controller = new Controller({ store, clock, random, log, requests, node: record.node });
    this.#controller.start();
    this.#scrubber = new Scrubber({ store, clock, log, node: record.node, disks });
    this.#scrubber.start();
  }

  /** Gives a node that has just registered its share of the placement groups. */
  #place(store: MetadataStore): void {
    updatePlacement(store).catch((thrown) => {
      const { code, message } = asFault(thrown, 'UNAVAILABLE');
      const { clock, log } = this.#options;
      log.warn({ code, error: message }, 'The placement table is not up to date; trying again.');
      if (this.#isClosed || !this.isRegistered) return;
      this.#timer = clock.after(RETRY_PLACEMENT_MS, () => this.#place(store));
    });
  }
}
