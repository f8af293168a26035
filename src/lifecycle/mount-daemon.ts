/**
 * One mounted volume: the log's owner, the filesystem on it and the FUSE session, from the takeover
 * to the release. What it is made of comes in; src/cli/mount-daemon.ts makes it a process.
 *
 * INVARIANT: nothing is served before the volume is loaded, and nothing after it was released.
 * INVARIANT: the volume is released only after a commit that followed the last request.
 */
import { assert, present } from '../core/assert.js';
import { asFault, HoldfastError } from '../core/errors.js';
import { idFromBytes, type OwnerId } from '../core/ids.js';
import { FuseSession } from '../fuse/session.js';
import { METADATA_SCHEMA, type VolumeFacts, type VolumeRecord } from '../metadata/model.js';
import { Presence } from '../metadata/presence.js';
import { Volumes } from '../metadata/volumes.js';
import { LogOwner } from '../replication/owner.js';
import { ownerGate } from '../replication/owner-gate.js';
import type { VolumeFilesystem } from '../volume/filesystem.js';
import type { IntentLog } from '../volume/intent-log.js';
import { logRoots } from '../volume/log-roots.js';
import {
  type Adoption,
  beginIntents,
  canResend,
  checkHeir,
  connectionOf,
  inherit,
  judge,
  nextEpoch,
  untilAvailable,
  waitingFor,
} from './adoption.js';
import { awaitTurn } from './claim.js';
import { abortNote } from './copied-mounts.js';
import { endDevices } from './end-devices.js';
import { settleSession } from './hand-over.js';
import { StateFile } from './keeper.js';
import { loadVolume } from './load-volume.js';
import {
  checkKind,
  commitInterval,
  type MountDaemonDeps,
  type MountDaemonHandlers,
  ownerNow,
  standingOf,
  takeAway,
  unlessEnded,
  untilPublished,
  usageOf,
} from './mount-daemon-parts.js';
import { type Claimed, readOwnership, writeNote, writeOwnership } from './mount-files.js';
import type { LiveStatus, MountPhase, MountSpec } from './mount-types.js';
import { MountWatch } from './mount-watch.js';
import { releaseVolume } from './release-volume.js';
import { takeOver } from './take-over.js';

/** The record is read this often, to see growth, and a newer owner on an idle mount. */
const RECORD_POLL_MS = 3_000;
/** For whoever waits for the end of a mount to see what it left. */
const NOTICE_MS = 200;
/** Users of a mount that was taken away keep their EIO, or their last calls, so long. */
const LAST_USERS_MS = 5_000;
const HEARTBEAT_MS = 2_000;
/** A daemon that has served for so long did not die of what its predecessor died of. */
const SETTLED_MS = 500;

export class MountDaemon {
  readonly #deps: MountDaemonDeps;
  readonly #spec: MountSpec;
  readonly #handlers: MountDaemonHandlers;
  readonly #volumes: Volumes;
  /** Resolves once all is over, with what went wrong, if anything. */
  readonly ended: Promise<HoldfastError | null>;
  #onEnded: (fault: HoldfastError | null) => void = () => {};
  #phase: MountPhase = 'starting';
  #detail = 'starting';
  #record: VolumeFacts | null = null;
  #owner: LogOwner | null = null;
  #ownerId: OwnerId | null = null;
  #presence: Presence | null = null;
  #filesystem: VolumeFilesystem | null = null;
  #session: FuseSession | null = null;
  #fault: HoldfastError | null = null;
  #isOver = false;
  #watched: MountWatch | null = null;
  #device: string | null = null;
  /** What `stop` was asked for while the mount was being adopted. */
  #stopAsked: string | null = null;
  /** Resolves when an adoption has come to its end, whichever. */
  readonly #adopted: Promise<void>;
  #onAdopted: () => void = () => {};
  #handedOver = false;

  constructor(deps: MountDaemonDeps, spec: MountSpec, handlers: MountDaemonHandlers) {
    this.#deps = deps;
    this.#spec = spec;
    this.#handlers = handlers;
    this.#volumes = new Volumes(deps.store, deps.clock, deps.random);
    this.ended = new Promise((resolve) => {
      this.#onEnded = resolve;
    });
    this.#adopted = new Promise((resolve) => {
      this.#onAdopted = resolve;
    });
    if (deps.adoption === null) this.#onAdopted();
    else this.#phase = 'adopting';
  }

  /** Whether it has ended for another daemon to go on with the mount. */
  get handedOver(): boolean {
    return this.#handedOver;
  }

  /**
   * Takes the volume over and loads it. Rejects with what kept it from that (see startMount); the
   * caller then calls `stop`.
   */
  async load(): Promise<void> {
    this.#heartbeat();
    try {
      await unlessEnded(this.#load(), this.ended);
    } catch (thrown) {
      const fault = await this.#judged(thrown);
      // What cannot be adopted ends like what cannot be started.
      this.#phase = 'starting';
      throw fault;
    }
  }

  /** By what the next daemon would find here. */
  async #judged(thrown: unknown): Promise<unknown> {
    const { adoption, host } = this.#deps;
    const held = readOwnership(host.state, this.#spec.mount);
    if (adoption === null || held === null) return thrown;
    const left = { ...adoption, claims: held.claims };
    return await this.#patiently(() => judge(this.#volumes, left, thrown));
  }

  async #load(): Promise<void> {
    const { adoption, clock } = this.#deps;
    const record = await (adoption === null ? this.#found() : this.#inherited(adoption));
    await this.#takeOver(record);
    const owner = present(this.#owner, 'an owner');
    this.#filesystem = await this.#mountVolume(owner);
    // Given up while it was loaded: its release has come and gone.
    if (this.#isOver) this.#filesystem.stop();
    await this.#patiently(() => this.#writeClaims([]));
    if (adoption === null) await untilPublished(clock, present(this.#presence, 'a presence'));
    this.#assertHeld();
    this.#watched = new MountWatch(clock, owner, this.#filesystem, () => this.#isOver);
    this.#watch();
  }

  /** The volume of that name, once nobody alive has it. */
  async #found(): Promise<VolumeRecord> {
    const { record } = await this.#volumes.byName(this.#spec.volume);
    this.#record = record;
    checkKind(record, this.#spec.kind);
    const onProgress = (text: string): void => this.#progress(text);
    const deps = { ...this.#deps, onProgress, isStopped: () => this.#isOver };
    await awaitTurn(deps, record, this.#spec);
    return record;
  }

  async #inherited(adoption: Adoption): Promise<VolumeRecord> {
    const record = await this.#patiently(() => inherit(this.#volumes, adoption));
    this.#record = record;
    return record;
  }

  /** A mount that lives waits for what it needs, and says so; one that is being made does not. */
  #patiently<T>(work: () => T | Promise<T>): T | Promise<T> {
    const { clock, adoption } = this.#deps;
    if (adoption === null) return work();
    return untilAvailable(clock, (text) => this.#waits(text), work);
  }

  #waits(text: string): void {
    if (text !== this.#detail) this.#deps.log.warn({ volume: this.#spec.volume }, text);
    this.#progress(text);
  }

  /** Throws what has become of the volume meanwhile, if it is not this process's any more. */
  #assertHeld(): void {
    if (this.#fault !== null) throw this.#fault;
    if (this.#isOver) throw new HoldfastError('CLOSED', 'the mount was given up');
  }

  /** A launcher that hears nothing takes its daemon for dead. */
  #heartbeat(): void {
    if (this.#session !== null || this.#isOver) return;
    this.#handlers.onProgress(this.#detail);
    this.#deps.clock.after(HEARTBEAT_MS, () => this.#heartbeat());
  }

  async #takeOver(record: VolumeRecord): Promise<void> {
    const { clock, random, directory, hostname, pid, adoption } = this.#deps;
    const id = idFromBytes<OwnerId>(random.bytes(16));
    this.#ownerId = id;
    const address = `${hostname}/${pid}`;
    const reaped = adoption === null ? {} : { reaped: checkHeir(adoption, record) };
    const identity = { volume: record.volume, owner: id, address };
    const owner = new LogOwner(this.#deps, { ...identity, ...reaped });
    this.#owner = owner;
    const next = nextEpoch(record);
    const claims = [...(adoption?.claims ?? []), { owner: id, epoch: next }];
    await this.#patiently(() => this.#writeClaims(claims));
    await takeOver({
      owner,
      clock,
      directory,
      volume: record.name,
      timeoutMs: adoption === null ? this.#spec.timeoutMs : null,
      onProgress: (text) => this.#progress(text),
      onStopped: (reason) => this.#stopped(reason),
    });
    this.#record = present(owner.record, 'an owner that serves has a record');
    const { volume, epoch } = this.#record;
    if (adoption !== null && epoch !== next) {
      throw new HoldfastError('FENCED', `somebody else had "${record.name}" in between`);
    }
    const { directory: mountPoint, since } = this.#spec;
    const where = { host: hostname, pid, mountPoint, since };
    const presence = { schema: METADATA_SCHEMA, volume, epoch, owner: id, ...where };
    this.#presence = new Presence({ ...this.#deps, record: presence });
    this.#presence.start();
  }

  /** Which owners a successor may find; none of them: this one, which has all that there was. */
  #writeClaims(claims: readonly Claimed[]): void {
    const { volume, epoch } = present(this.#record, 'a record');
    const owner = present(this.#ownerId, 'an owner');
    const all = claims.length === 0 ? [{ owner, epoch }] : claims;
    const { state } = this.#deps.host;
    writeOwnership(state, this.#spec.mount, { owner, volume, claims: all });
  }

  async #mountVolume(owner: LogOwner): Promise<VolumeFilesystem> {
    const { adoption, clock } = this.#deps;
    const { readOnly, volume } = this.#spec;
    const record = present(this.#record, 'a record');
    const { sizeBytes } = record;
    const commitIntervalMs = commitInterval(this.#spec, record);
    const parts = { owner, roots: logRoots(owner), clock, sizeBytes, readOnly, commitIntervalMs };
    const onProgress = (text: string): void => this.#progress(text);
    const onFull = ({ message }: HoldfastError): void => this.#waits(waitingFor(message));
    const adopted = adoption === null ? {} : { adopted: { ...adoption, onFull } };
    const intents = readOnly ? {} : { intents: await this.#patiently(() => this.#intentLog()) };
    return await loadVolume({ ...parts, ...adopted, ...intents, volume, onProgress });
  }

  #intentLog(): IntentLog {
    const { volume, epoch } = present(this.#record, 'a record');
    const owner = present(this.#ownerId, 'an owner');
    return beginIntents(this.#deps, { volume, owner, epoch, mount: this.#spec.mount });
  }

  #progress(text: string): void {
    this.#detail = text;
    this.#handlers.onProgress(text);
  }

  /**
   * The connection is mounted, as MAJOR:MINOR: answers the kernel from here on. Throws when the
   * volume was lost since it was loaded.
   */
  serve(device: string | null): void {
    this.#assertHeld();
    const filesystem = present(this.#filesystem, 'a volume is loaded before it is served');
    assert(this.#session === null, 'a connection is served once');
    this.#device = device;
    const { log, clock, adoption } = this.#deps;
    if (adoption !== null && !canResend(adoption)) {
      void this.#abort();
      return;
    }
    const { intents } = filesystem.history;
    this.#session = new FuseSession({
      device: this.#deps.device(),
      filesystem,
      log,
      clock,
      readOnly: this.#spec.readOnly,
      gate: ownerGate(present(this.#owner, 'an owner')),
      ...(intents === null ? {} : { intents }),
      ...(adoption === null ? {} : { adopted: connectionOf(adoption) }),
      onReady: (agreed) => {
        this.#serving();
        this.#handlers.onReady(agreed);
      },
      onEnd: (error) => void this.#end(error === null ? null : asFault(error, 'UNAVAILABLE')),
    });
    this.#session.start();
    if (adoption !== null) this.#serving();
  }

  #serving(): void {
    const { clock, host, log, adoption } = this.#deps;
    const { directory, volume, mount } = this.#spec;
    this.#phase = 'mounted';
    this.#detail = 'serving';
    clock.after(SETTLED_MS, () => {
      if (!this.#isOver) writeNote(host.state, mount, StateFile.SETTLED, '');
    });
    if (adoption === null) return;
    log.info({ volume, directory }, 'The mount goes on with a new daemon.');
    this.#onAdopted();
    if (this.#stopAsked !== null) void this.stop(this.#stopAsked);
  }

  /** The volume is whole again, but the kernel cannot be asked for what was under way. */
  async #abort(): Promise<void> {
    const message = `the mount at ${this.#spec.directory} has lost its daemon`;
    const hint = 'Linux 6.9 and newer can go on with another one.';
    const fault = new HoldfastError('UNAVAILABLE', message, { hint });
    await this.#unmount({ lazy: true });
    await this.#end(fault);
  }

  /**
   * Ends this process's part in the mount in favour of the next daemon: nothing more is answered,
   * and everything is committed. Rejects with why that cannot be: then it goes on.
   */
  async handOver(): Promise<void> {
    const session = this.#session;
    const { clock, host } = this.#deps;
    if (session === null || this.#phase !== 'mounted') {
      throw new HoldfastError('BUSY', `the mount is ${this.#phase}`, { retryable: true });
    }
    const filesystem = present(this.#filesystem, 'what is served is loaded');
    await this.#volumes.head(present(this.#record, 'a record').volume); // the next one needs it
    const isSettled = (): boolean => filesystem.history.isSettled;
    const end = (): void => {
      if (this.#handedOver) return;
      this.#assertHeld();
      host.state.write(this.#spec.mount, StateFile.COMMITTED, `${this.#ownerId}\n`);
      // A request that still waits is done by the next daemon alone: the kernel asks it again.
      filesystem.stop();
      this.#isOver = true;
      this.#handedOver = true;
      this.#phase = 'stopping';
      this.#detail = 'handed over to the next daemon';
      this.#onEnded(null);
    };
    await settleSession({ session, clock, commit: () => this.commit(), isSettled, end });
  }

  /** Resolves once everything up to now is on stable storage. Rejects with why it never will be. */
  async commit(): Promise<void> {
    await this.#adopted;
    const filesystem = this.#filesystem;
    if (this.#fault !== null) throw this.#fault;
    if (filesystem === null) {
      const hint = 'Wait until it is mounted.';
      throw new HoldfastError('UNAVAILABLE', 'it is not mounted yet', { hint });
    }
    return await new Promise((resolve, reject) => {
      filesystem.commit((error) => {
        if (error !== null) return reject(asFault(error, 'UNAVAILABLE'));
        this.#watched?.look();
        resolve();
      });
    });
  }

  /**
   * Commits, unmounts and releases, in whatever phase; `ended` tells when that is done. Whoever
   * still uses the mount after a moment (a device: a minute) gets errors. Idempotent.
   */
  async stop(reason: string): Promise<void> {
    const { log, clock } = this.#deps;
    if (this.#phase === 'stopping' || this.#isOver) return;
    if (this.#phase === 'adopting' && this.#fault === null) {
      this.#stopAsked = reason;
      return;
    }
    log.info({ volume: this.#spec.volume, reason }, 'Stopping the mount.');
    this.#phase = 'stopping';
    this.#detail = reason;
    if (this.#session === null) return this.#end(this.#fault);
    await endDevices(this.#deps, this.#spec);
    await this.commit().catch(() => {});
    await this.#unmount({ lazy: false });
    clock.after(LAST_USERS_MS, () => void this.#endAnyway());
  }

  #unmount(options: { readonly lazy: boolean }): Promise<void> {
    return takeAway(this.#deps, this.#spec.directory, this.#device, options);
  }

  /** The last users have not gone: what they wrote is committed, what they do next fails. */
  async #endAnyway(): Promise<void> {
    if (this.#isOver) return;
    await this.commit().catch(() => {});
    await this.#end(this.#fault);
  }

  #stopped(reason: HoldfastError): void {
    if (this.#phase === 'stopping' || this.#isOver) return;
    void this.#fail(reason);
  }

  /** The volume is lost to this process: says by whom, takes the mount away, answers EIO. */
  async #fail(reason: HoldfastError): Promise<void> {
    const { log, clock } = this.#deps;
    const { volume, directory } = this.#spec;
    if (this.#fault !== null) return;
    this.#fault = reason;
    if (this.#session === null) return;
    this.#phase = 'failed';
    this.#detail = reason.message;
    const lost = present(this.#record, 'a record').volume;
    const by = reason.code === 'FENCED' ? await ownerNow(this.#volumes, lost) : {};
    const { code } = reason;
    const message = `The mount has lost its volume: ${reason.message}`;
    log.error({ volume, directory, code, ...by }, message);
    await this.#unmount({ lazy: true });
    clock.after(LAST_USERS_MS, () => void this.#endAnyway());
  }

  /** Everything that was asked for is committed, or never will be: gives the volume back. */
  async #end(error: HoldfastError | null): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#onAdopted();
    this.#phase = 'stopping';
    this.#detail = 'releasing the volume';
    const fault = this.#fault ?? error;
    const { log, host } = this.#deps;
    const { volume, directory, mount } = this.#spec;
    const aborted = abortNote(host.state, mount);
    if (aborted !== null) log.warn({ volume, directory }, `It was aborted: ${aborted}.`);
    await this.#release();
    this.#filesystem?.stop();
    if (fault === null) log.info({ volume, directory }, 'The mount has ended.');
    else log.error({ volume, directory, code: fault.code }, `The mount ended: ${fault.message}`);
    this.#onEnded(fault);
  }

  /** Says so in the state directory when the volume could not be released. */
  async #release(): Promise<void> {
    const { clock, host } = this.#deps;
    if (this.#owner === null || this.#record === null) return;
    const isReleased = await releaseVolume({
      ...this.#deps,
      owner: this.#owner,
      volume: this.#record.volume,
      name: this.#spec.volume,
      filesystem: this.#filesystem,
      presence: this.#presence,
    });
    if (isReleased) return;
    writeNote(host.state, this.#spec.mount, StateFile.UNRELEASED, '');
    // The keeper removes it with all the rest: whoever waits for the end shall have seen it.
    await new Promise<void>((resolve) => clock.after(NOTICE_MS, resolve));
  }

  #watch(): void {
    const { clock } = this.#deps;
    const records = (): void => {
      void this.#readRecord().finally(() => {
        if (!this.#isOver) clock.after(RECORD_POLL_MS, records);
      });
    };
    clock.after(RECORD_POLL_MS, records);
  }

  /** Nobody tells an owner that its volume was grown, nor an idle one that it was fenced. */
  async #readRecord(): Promise<void> {
    const known = present(this.#record, 'a record');
    try {
      const found = await this.#volumes.head(known.volume);
      if (found === null || this.#isOver) return;
      const { record } = found;
      if (record.epoch > known.epoch) {
        const message = `"${record.name}" has a newer owner, ${record.owner?.address ?? 'unknown'}`;
        void this.#fail(new HoldfastError('FENCED', message));
        this.#owner?.stop();
        return;
      }
      if (record.sizeBytes > known.sizeBytes) this.#filesystem?.resize(record.sizeBytes);
      this.#filesystem?.history.setCommitInterval(commitInterval(this.#spec, record));
      this.#record = record;
    } catch {
      // the metadata store cannot be asked now: mounted volumes go on
    }
  }

  status(): LiveStatus {
    return {
      ...{ phase: this.#phase, detail: this.#detail },
      ...{ pid: this.#deps.pid, version: this.#deps.version },
      volumeId: this.#record?.volume ?? null,
      epoch: this.#record?.epoch ?? 0,
      ...usageOf(this.#filesystem, this.#record?.sizeBytes ?? 0),
      ...(this.#watched?.status() ?? { lastCommit: null, waitingSince: null }),
      ...standingOf(this.#owner),
      residentBytes: this.#deps.residentBytes(),
    };
  }
}
