/**
 * What one node does for the whole cluster, while it leads: repair, drain and balance (repair.ts),
 * the placement of new segments, and the purge of what has expired in the trash (expiry.ts). All of
 * it stands in the metadata store; whoever leads next goes on from there.
 *
 * INVARIANT: everything written carries the leader's guard, or is a compare-and-swap that is right
 * whoever makes it.
 */
import type { NodeRequests } from '../block/wire/requests.js';
import { asFault } from '../core/errors.js';
import type { NodeId } from '../core/ids.js';
import { LEASE_TTL_SECONDS } from '../core/limits.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { Random } from '../io/random.js';
import { DirectoryCache } from '../metadata/directory-cache.js';
import { LeaderElection } from '../metadata/leader.js';
import { NODE_STATES } from '../metadata/node-states.js';
import { writeRepairReport } from '../metadata/repair-report.js';
import type { MetadataStore, Watch } from '../metadata/store.js';
import { TrashExpiry } from './expiry.js';
import { updatePlacement } from './placement-table.js';
import { Repair, type RepairNumbers, type RepairTimes } from './repair.js';

const ROLE = 'controller';
const REPORT_MS = 5_000;
/** Changes of nodes come in bursts. */
const WAKE_DELAY_MS = 100;
const RETRY_PLACEMENT_MS = 2_000;

export interface ControllerOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly requests: NodeRequests;
  readonly node: NodeId;
  readonly times?: Partial<RepairTimes>;
  readonly ttlSeconds?: number;
}

export class Controller {
  readonly #options: ControllerOptions;
  readonly #election: LeaderElection;
  readonly #expiry: TrashExpiry;
  #reign: Reign | null = null;
  #isStopped = false;

  constructor(options: ControllerOptions) {
    this.#options = options;
    const { store, clock, random, node, ttlSeconds = LEASE_TTL_SECONDS } = options;
    const candidate = `${node}/${Buffer.from(random.bytes(8)).toString('hex')}`;
    const onChange = (leading: boolean): void => this.#lead(leading);
    const role = ROLE;
    this.#election = new LeaderElection({ store, clock, role, candidate, ttlSeconds, onChange });
    this.#expiry = new TrashExpiry({ ...options, election: this.#election });
  }

  /** Of repair; null while another node leads. */
  get numbers(): RepairNumbers | null {
    return this.#reign?.repair.numbers ?? null;
  }

  start(): void {
    this.#election.start();
  }

  /** Lets another node lead, which ends what is under way. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#lead(false);
    this.#expiry.stop();
    await this.#election.stop();
  }

  #lead(leading: boolean): void {
    this.#expiry.lead(leading && !this.#isStopped);
    if (leading === (this.#reign !== null)) return;
    this.#reign?.end();
    this.#reign = null;
    if (leading && !this.#isStopped) this.#reign = new Reign(this.#options, this.#election);
  }
}

/** One time of leading. */
class Reign {
  readonly repair: Repair;
  readonly #options: ControllerOptions;
  readonly #election: LeaderElection;
  readonly #directory: DirectoryCache;
  readonly #wishes: Watch;
  #timer: Timer | null = null;
  #reporting: Timer | null = null;
  /** Of the store, when what is wanted of nodes last changed. */
  #wishesAt = 0;
  /** The nodes and wishes that the placement table was made for. */
  #placedFor = '';
  #told = '';
  #doneBytes = 0;
  #isOver = false;

  constructor(options: ControllerOptions, election: LeaderElection) {
    this.#options = options;
    this.#election = election;
    const { store, clock, random, log, requests, times = {} } = options;
    const onChange = (): void => this.#changed(WAKE_DELAY_MS);
    const onReady = (): void => clock.soon(() => this.#begin());
    this.#directory = new DirectoryCache({ store, clock, log, onReady, onChange });
    const directory = this.#directory;
    const guard = () => (election.leading && !this.#isOver ? [election.guard] : null);
    this.repair = new Repair({ store, clock, random, log, requests, directory, guard, times });
    const onWishes = (_: unknown, revision: number): void => {
      this.#wishesAt = revision;
      onChange();
    };
    this.#wishes = store.watch(NODE_STATES, {
      onSnapshot: onWishes,
      onEvents: onWishes,
      onConnected: () => {},
    });
  }

  #begin(): void {
    if (this.#isOver) return;
    this.repair.start();
    this.#changed(0);
    this.#report();
  }

  end(): void {
    this.#isOver = true;
    this.repair.stop();
    this.#timer?.cancel();
    this.#reporting?.cancel();
    this.#wishes.close();
    this.#directory.close();
  }

  #changed(delayMs: number): void {
    if (this.#isOver || !this.#directory.ready) return;
    const { clock } = this.#options;
    this.#timer?.cancel();
    this.#timer = clock.after(delayMs, () => {
      this.repair.wake();
      this.#place();
    });
  }

  /**
   * Makes the placement table anew where nodes, or what is wanted of them, are others than before.
   */
  #place(): void {
    const { store, log } = this.#options;
    const placedFor = JSON.stringify([this.#wishesAt, this.#directory.nodes()]);
    if (placedFor === this.#placedFor) return;
    updatePlacement(store).then(
      () => {
        this.#placedFor = placedFor;
      },
      (thrown) => {
        const { code, message } = asFault(thrown, 'UNAVAILABLE');
        if (this.#isOver) return;
        log.warn({ code, error: message }, 'The placement table is not up to date; trying again.');
        this.#changed(RETRY_PLACEMENT_MS);
      },
    );
  }

  /** Tells the store how repair goes, when there is something new to tell. */
  #report(): void {
    if (this.#isOver) return;
    const { clock, store, node } = this.#options;
    const { numbers } = this.repair;
    const bytesPerSecond = Math.round(((numbers.doneBytes - this.#doneBytes) * 1_000) / REPORT_MS);
    this.#doneBytes = numbers.doneBytes;
    const report = { ...numbers, bytesPerSecond };
    const text = JSON.stringify(report);
    if (text !== this.#told && this.#election.leading) {
      this.#told = text;
      const at = new Date(clock.wall()).toISOString();
      writeRepairReport(store, [this.#election.guard], { ...report, node, at }).catch(() => {
        this.#told = ''; // it is told again
      });
    }
    this.#reporting = clock.after(REPORT_MS, () => this.#report());
  }
}
