/**
 * The engine's state kept in level: every change is one batch, flushed to disk (`sync`) before it
 * is applied in memory and seen by anybody. Level's own lock keeps a second process out. After a
 * failed write nobody knows what the disk holds: the database is then closed for good, and reading
 * it again is the next server's work.
 *
 * Keys: `m` (revision), `k` + key (value, revision, lease), `l` + lease id (its time to live).
 */
import { Level } from 'level';
import { assert } from '../core/assert.js';
import { HoldfastError, malformed } from '../core/errors.js';
import { type Revision, revision } from '../core/units.js';
import { Engine, type StoredEntry } from './engine.js';
import type { LeaseId, Operation, WatchEvent } from './store.js';

/** Written with the revision; a newer one is refused. */
const FORMAT = 1;

type Put = { type: 'put'; key: string; value: unknown };
type Change = Put | { type: 'del'; key: string };

export class EmbeddedDatabase {
  readonly engine: Engine;
  readonly #level: Level<string, unknown>;
  #failed = false;

  private constructor(level: Level<string, unknown>, engine: Engine) {
    this.#level = level;
    this.engine = engine;
  }

  /** Null when another process (or store of this one) has it open. */
  static async open(directory: string): Promise<EmbeddedDatabase | null> {
    const level = new Level<string, unknown>(directory, { valueEncoding: 'json' });
    try {
      await level.open();
    } catch (thrown) {
      if (causeCode(thrown) === 'LEVEL_LOCKED') return null;
      throw failure(`the metadata in ${directory} cannot be opened`, thrown);
    }
    try {
      return new EmbeddedDatabase(level, await load(level));
    } catch (thrown) {
      await level.close();
      if (thrown instanceof HoldfastError) throw thrown;
      throw failure(`the metadata in ${directory} cannot be read`, thrown);
    }
  }

  /** True once a write has failed: nothing may be answered from here any more. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Makes operations that `holds` durable, then applies them. One call at a time. */
  async apply(operations: readonly Operation[]): Promise<WatchEvent[]> {
    const { engine } = this;
    const effective = operations.filter(
      (operation) => operation.type === 'put' || engine.get(operation.key) !== null,
    );
    if (effective.length === 0) return [];
    const next = revision(engine.revision + 1);
    await this.#write([...effective.map((operation) => changeOf(operation, next)), meta(next)]);
    const events = engine.apply(effective);
    assert(engine.revision === next, 'the revision stored is the revision in memory');
    return events;
  }

  async grant(id: LeaseId, ttlSeconds: number): Promise<void> {
    await this.#write([{ type: 'put', key: `l${id}`, value: { ttlSeconds } }]);
    this.engine.grant(id, ttlSeconds);
  }

  /** Ends a lease that exists, with its keys. */
  async endLease(id: LeaseId): Promise<WatchEvent[]> {
    const { engine } = this;
    const operations = engine.revocation(id);
    const next = revision(engine.revision + 1);
    const changes = operations.map((operation) => changeOf(operation, next));
    const bumped = operations.length === 0 ? [] : [meta(next)];
    await this.#write([...changes, ...bumped, { type: 'del', key: `l${id}` }]);
    const events = engine.apply(operations);
    engine.forgetLease(id);
    return events;
  }

  close(): Promise<void> {
    return this.#level.close();
  }

  async #write(changes: Change[]): Promise<void> {
    assert(!this.#failed, 'a failed database is not written again');
    try {
      // The cast: level's type makes `valueEncoding` and `sync` exclude each other.
      await this.#level.batch(changes, { sync: true } as object);
    } catch (thrown) {
      this.#failed = true;
      throw new HoldfastError('UNKNOWN_OUTCOME', `embedded metadata: ${reasonOf(thrown)}`);
    }
  }
}

function changeOf(operation: Operation, at: Revision): Change {
  const key = `k${operation.key}`;
  if (operation.type === 'delete') return { type: 'del', key };
  const lease = operation.lease ?? null;
  return { type: 'put', key, value: { value: operation.value, modRevision: at, lease } };
}

function meta(at: Revision): Put {
  return { type: 'put', key: 'm', value: { format: FORMAT, revision: at } };
}

async function load(level: Level<string, unknown>): Promise<Engine> {
  const engine = new Engine();
  const entries: StoredEntry[] = [];
  let at = revision(1);
  for await (const [key, value] of level.iterator()) {
    const fields = value as Record<string, unknown>;
    const { value: text, modRevision, lease, ttlSeconds } = fields;
    if (key.startsWith('l') && typeof ttlSeconds === 'number') {
      engine.grant(key.slice(1), ttlSeconds);
    } else if (key === 'm' && typeof fields.revision === 'number') {
      checkFormat(fields.format);
      at = revision(fields.revision);
    } else if (key.startsWith('k') && typeof text === 'string' && typeof modRevision === 'number') {
      const holder = typeof lease === 'string' ? lease : null;
      const entry = { key: key.slice(1), value: text, modRevision: revision(modRevision) };
      entries.push({ ...entry, lease: holder });
    } else {
      throw malformed(`embedded metadata: "${key.slice(0, 80)}" is not an entry`);
    }
  }
  checkLoaded(engine, entries, at);
  engine.load(entries, at);
  return engine;
}

function checkFormat(format: unknown): void {
  if (format === FORMAT) return;
  throw new HoldfastError(
    'VERSION',
    `embedded metadata: format ${String(format)} is not known here`,
  );
}

function checkLoaded(engine: Engine, entries: readonly StoredEntry[], at: Revision): void {
  for (const { key, modRevision, lease } of entries) {
    const unleased = lease !== null && engine.leaseTtl(lease) === null;
    if (modRevision <= at && !unleased) continue;
    throw new HoldfastError('INCONSISTENT', `embedded metadata: "${key}" contradicts the rest`);
  }
}

function causeCode(thrown: unknown): unknown {
  const cause = thrown instanceof Error ? (thrown.cause as { code?: unknown } | undefined) : null;
  return cause?.code;
}

function reasonOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  return thrown.cause instanceof Error ? thrown.cause.message : thrown.message;
}

function failure(what: string, thrown: unknown): HoldfastError {
  return new HoldfastError('DISK_FAILED', `${what}: ${reasonOf(thrown)}`, { cause: thrown });
}
