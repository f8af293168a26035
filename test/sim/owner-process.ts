/**
 * A program that owns, or tries to own, a volume: the real LogOwner under a workload of appends,
 * reads and replays, on a machine that can be cut off, paused and killed.
 */
import type { HoldfastError } from '../../src/core/errors.js';
import { idFromBytes, type OwnerId } from '../../src/core/ids.js';
import { lsn, PAGE_BYTES } from '../../src/core/units.js';
import { LogOwner } from '../../src/replication/owner.js';
import type { OwnerState } from '../../src/replication/owner-api.js';
import { SimProcess } from '../fixtures/sim-clock.js';
import type { SimRandom } from '../fixtures/sim-random.js';
import { MountedLife } from './mounted-life.js';
import { type AckedOp, entryOf, firstWrongPage, makeOp } from './ops.js';
import { ownerDeps } from './parts.js';
import { short, Violation } from './violation.js';
import type { VolumeSim, World } from './world.js';

const LEASE_CHECK_MS = 80;
/** After so many operations of a volume its owners append ten times more slowly. */
const OPS_BEFORE_SLOWING = 300;
/** Unacknowledged appends above which the workload waits. */
const MAX_OUTSTANDING = 48;

export class OwnerProcess {
  readonly name: string;
  readonly host: string;
  readonly volume: VolumeSim;
  readonly process: SimProcess;
  readonly owner: LogOwner;
  readonly world: World;
  readonly #random: SimRandom;
  readonly id: OwnerId;
  #epoch = 0;
  #outstanding = 0;
  #blocked = false;
  #releasing = false;
  #lastNamed = '';
  /** The volume mounted on this owner, where volumes have files. */
  life: MountedLife | null = null;
  acked = 0;
  reads = 0;

  constructor(world: World, volume: VolumeSim, host: string, number: number) {
    this.world = world;
    this.volume = volume;
    this.host = host;
    this.name = `owner${number}@${host}`;
    this.#random = world.random.fork(this.name);
    this.process = new SimProcess(world.scheduler, this.name, {
      offsetMs: this.#random.between(0, 1e6),
      rate: this.#random.between(0.97, 1.03),
    });
    this.id = idFromBytes<OwnerId>(this.#random.bytes(16));
    this.owner = new LogOwner(ownerDeps(world, this), {
      volume: volume.id,
      owner: this.id,
      address: host,
      limits: world.spec.ownerLimits,
    });
    this.process.after(0, () => this.owner.start((state) => this.#onState(state)));
  }

  get random(): SimRandom {
    return this.#random;
  }

  get serving(): boolean {
    return this.process.alive && this.owner.state.type === 'serving';
  }

  get stopped(): boolean {
    return !this.process.alive || this.owner.state.type === 'stopped';
  }

  #onState(state: OwnerState): void {
    const named = state.type === 'taking-over' ? `${state.type} ${state.step}` : state.type;
    if (named === this.#lastNamed) return;
    this.#lastNamed = named;
    this.world.hit(`owner-state.${named}`);
    this.world.note(() => `${this.name} of ${this.volume.name}: ${describeState(state)}`);
    if (state.type === 'taking-over') this.world.ownerStep(state.step);
    if (state.type === 'serving') this.#serve(state.epoch);
    if (state.type === 'stopped') this.#stopped(state.reason);
  }

  #stopped(reason: HoldfastError): void {
    this.world.hit(`owner-stopped.${reason.code}`);
    if (reason.code === 'INCONSISTENT') {
      this.world.checkers.fail(new Violation(10, `${this.name} halted: ${reason.message}`));
    }
    this.process.after(1, () => this.kill());
  }

  /** 0 until it serves. */
  get epoch(): number {
    return this.#epoch;
  }

  #serve(epoch: number): void {
    this.#epoch = epoch;
    this.world.hit('takeovers');
    const { files } = this.volume;
    if (files !== null) {
      this.life = new MountedLife(this, files, epoch);
      this.life.begin();
      this.#scheduleLeaseChecks();
      return;
    }
    if (this.#random.chance(0.5)) this.#replay();
    this.#scheduleAppends();
    this.#scheduleReads();
    this.#scheduleLeaseChecks();
  }

  #scheduleAppends(): void {
    const { appendMs, burst } = this.world.spec;
    // A seed's events go where faults are, not into an ever longer log.
    const fast = this.volume.nextOp < OPS_BEFORE_SLOWING && this.world.chaos;
    const mean = fast ? appendMs : appendMs * 10;
    this.process.after(this.#random.exponential(mean), () => {
      if (!this.serving || this.#releasing) return;
      const count = 1 + this.#random.below(burst);
      for (let i = 0; i < count && this.#mayAppend(); i++) this.#append();
      this.#scheduleAppends();
    });
  }

  #mayAppend(): boolean {
    return this.serving && !this.#blocked && this.#outstanding < MAX_OUTSTANDING;
  }

  #append(): void {
    const { volume, world } = this;
    const op = makeOp(volume.index, volume.nextOp++, this.#random, world.spec.largeChance);
    this.#outstanding += 1;
    const more = this.owner.append(entryOf(volume.index, op), (error, appended) => {
      this.#outstanding -= 1;
      if (error !== null || appended === null) {
        world.hit(`append-error.${error?.code}`);
        return;
      }
      this.acked += 1;
      world.hit('acks');
      world.checkers.acknowledged(volume.id, this.#epoch, op.crc, appended, world.scheduler.now);
      const { lsn, segment, firstPage } = appended;
      if (op.pageCount > 0) volume.acked.push({ op, lsn, segment, firstPage });
      world.moment('ack');
    });
    if (more) return;
    this.#blocked = true;
    world.hit('append-backpressure');
    this.owner.onDrain(() => {
      this.#blocked = false;
    });
  }

  /** One append, for the liveness checks: calls back when it was acknowledged. */
  appendOnce(done: () => void): void {
    if (this.life !== null) {
      this.life.fsyncOnce(done);
      return;
    }
    const before = this.acked;
    this.#append();
    const check = (): void => {
      if (this.acked > before) done();
      else this.process.after(20, check);
    };
    this.process.after(5, check);
  }

  #scheduleReads(): void {
    this.process.after(this.#random.exponential(this.world.spec.readMs), () => {
      if (!this.serving || !this.world.chaos) return;
      const acked = this.volume.acked;
      if (acked.length > 0) this.readOne(this.#random.pick(acked.slice(-200)), () => {});
      this.#scheduleReads();
    });
  }

  /** What a mounted volume answers from memory: far more often than it reads pages. */
  #scheduleLeaseChecks(): void {
    this.process.after(this.#random.exponential(LEASE_CHECK_MS), () => {
      if (!this.serving || !this.world.chaos) return;
      this.#checkLease();
      this.#scheduleLeaseChecks();
    });
  }

  #checkLease(): void {
    const began = this.world.scheduler.now;
    this.owner.checkLease((error) => {
      this.world.hit(`lease.${error === null ? 'ok' : error.code}`);
      if (error === null) this.world.checkers.read(this.volume.id, this.#epoch, began);
    });
  }

  readOne(acked: AckedOp, done: (error: HoldfastError | null) => void): void {
    const { world, volume } = this;
    const { op, segment, firstPage } = acked;
    const first = this.#random.below(op.pageCount);
    const count = 1 + this.#random.below(Math.min(8, op.pageCount - first));
    const began = world.scheduler.now;
    this.owner.readPages(segment, firstPage + first, count, (error, data) => {
      world.hit(`read.${error === null ? 'ok' : error.code}`);
      if (error !== null || data === null) {
        if (error?.code === 'DATA_LOST') this.#lost(acked, began);
        done(error);
        return;
      }
      this.reads += 1;
      world.checkers.read(volume.id, this.#epoch, began);
      const wrong =
        data.length === count * PAGE_BYTES ? firstWrongPage(volume.index, op, first, data) : 0;
      if (wrong >= 0) {
        const where = `${short(segment)} page ${firstPage + first + wrong}`;
        world.checkers.fail(new Violation(12, `a read of ${where} returns other bytes`));
      }
      done(null);
    });
  }

  /** "No good copy is left" needs a disk that said so: silence and ignorance are no evidence. */
  #lost(acked: AckedOp, began: number): void {
    const where = `${short(acked.segment)} page ${acked.firstPage}`;
    const end = (acked.firstPage + 1) * PAGE_BYTES;
    if (this.world.mayBeLost(acked.segment, end, began)) return;
    this.world.checkers.fail(new Violation(1, `acknowledged ${where} is said to be lost`));
  }

  #replay(): void {
    this.replay(() => {});
  }

  /** Replays the log from the beginning, or from the root, and checks all of it. */
  replay(done: (error: { readonly message: string } | null) => void): void {
    if (this.life !== null) {
      this.life.verify(done);
      return;
    }
    const { world, volume } = this;
    const ackedBefore = world.checkers.volumes.ackedCount(volume.id);
    const began = world.scheduler.now;
    let next = 0;
    this.owner.replay(
      lsn(0),
      (record) => {
        world.checkers.replayed(volume.id, next, record);
        next += 1;
      },
      (error) => {
        world.hit(`replay.${error === null ? 'ok' : error.code}`);
        // Like a read: a fenced owner's log may be behind; then it must not say that it is whole.
        if (error === null) {
          world.checkers.read(volume.id, this.#epoch, began);
          world.checkers.replayEnded(next, ackedBefore);
        }
        done(error);
      },
    );
  }

  release(): void {
    if (!this.serving || this.#releasing) return;
    this.#releasing = true;
    this.world.note(() => `${this.name} releases ${this.volume.name}`);
    const release = (): void =>
      this.owner.release((error) => {
        this.world.hit(`release.${error === null ? 'ok' : error.code}`);
      });
    if (this.life === null) release();
    else this.life.release(release);
  }

  kill(): void {
    this.process.kill();
  }
}

function describeState(state: OwnerState): string {
  if (state.type === 'taking-over') return `taking over, ${state.step}, epoch ${state.epoch}`;
  if (state.type === 'serving') return `serving, epoch ${state.epoch}`;
  if (state.type === 'stopped') return `stopped: ${state.reason.code} ${state.reason.message}`;
  return state.type;
}
