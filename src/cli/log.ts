/**
 * `holdfast log`: a volume's log as a plain tool, for demonstrations and tests. `append` makes each
 * line of standard input a record; `read` prints them again, verified.
 */
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { parseSeconds } from '../core/durations.js';
import { HoldfastError } from '../core/errors.js';
import { RECORD_MAX_BYTES } from '../core/limits.js';
import { lsn } from '../core/units.js';
import { onStopRequest } from '../io/node/process.js';
import type { VolumeRecord } from '../metadata/model.js';
import { isRawLog, RAW_LOG_LABEL } from '../metadata/names.js';
import { checkSession } from './node-secret.js';
import { wholeNumber } from './numbers.js';
import { addExamples, printResult } from './output.js';
import { type OwnedLog, withOwnedLog } from './owned-log.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';

interface LogOptions extends SessionOptions {
  readonly takeOver?: boolean;
  readonly timeout: string;
}

interface ReadOptions extends LogOptions {
  readonly from: string;
}

export function addLogCommands(program: Command): void {
  const log = program.command('log').description("append to and read a volume's log as lines");
  const shared = (command: Command): Command =>
    sessionOptions(command)
      .option('--take-over', 'also when another process owns the volume: that one stops for good')
      .option('--timeout <time>', 'how long taking the volume over may take', '30s');
  const label = `${RAW_LOG_LABEL.key}=${RAW_LOG_LABEL.value}`;
  const appends = shared(log.command('append <volume>'))
    .description('append the lines of standard input; prints each LSN once it is acknowledged')
    .action((name: string, options: LogOptions) => append(name, options));
  addExamples(appends, [
    [
      `Only for volumes with this label`,
      `holdfast volume create events --size 1GiB --label ${label}`,
    ],
    ['One record', 'echo hello | holdfast log append events'],
  ]);
  const reads = shared(log.command('read <volume>'))
    .description('print all records, verified against their checksums')
    .option('--from <lsn>', 'begin with this record', '0')
    .action((name: string, options: ReadOptions) => read(name, options));
  addExamples(reads, [
    ['Everything', 'holdfast log read events'],
    ['With LSNs, from 100 on', 'holdfast log read events --from 100 --json'],
  ]);
}

/** Takes the named volume over for the time of `work`, and releases it, also when that fails. */
async function withLog(
  name: string,
  options: LogOptions & { readonly writes: boolean },
  work: (log: OwnedLog) => Promise<void>,
): Promise<void> {
  await Session.run(options, async (session) => {
    const { record } = await session.volumeNamed(name);
    if (options.writes || !mayBeRawLog(record)) checkRawLog(record);
    checkOwner(record, options);
    await checkSession(session);
    const { clock, random, store, log, address, clients: requests } = session;
    const directory = await session.directory();
    const parts = { clock, random, store, requests, directory, log, address };
    const timeoutMs = parseSeconds(options.timeout, '--timeout');
    const { json, writes } = options;
    await withOwnedLog(parts, record, { timeoutMs, json, endsItself: writes }, work);
  });
}

/** A rebuild finds segments without labels. Of what nobody owns, reading takes nothing away. */
function mayBeRawLog({ root, owner, open, sealed }: VolumeRecord): boolean {
  const isFree = owner === null || owner.released;
  return root === null && isFree && open.length + sealed.length > 0;
}

function checkRawLog(record: VolumeRecord): void {
  if (isRawLog(record.labels)) return;
  const label = `${RAW_LOG_LABEL.key}=${RAW_LOG_LABEL.value}`;
  throw new HoldfastError('INVALID_ARGUMENT', `volume "${record.name}" is no plain log`, {
    hint: `Only volumes created with --label ${label} may be used this way.`,
  });
}

function checkOwner({ name, owner }: VolumeRecord, options: LogOptions): void {
  if (owner === null || owner.released || options.takeOver === true) return;
  const message = `volume "${name}" is owned by ${owner.address} (host/pid)`;
  throw new HoldfastError('CONFLICT', message, {
    hint: 'If that process is gone, or may be stopped, use --take-over.',
  });
}

async function append(name: string, options: LogOptions): Promise<void> {
  await withLog(name, { ...options, writes: true }, async (log) => {
    const waiting = new Set<Promise<void>>();
    let failed: unknown = null;
    const input = createInterface({ input: process.stdin, crlfDelay: 1000 });
    const forget = onStopRequest({ stdin: false }, (signal) => {
      failed ??= new HoldfastError('CLOSED', `stopped by ${signal}; each LSN printed is committed`);
      input.close();
    });
    for await (const line of input) {
      if (failed !== null) break;
      const record = Buffer.from(line);
      if (record.length > RECORD_MAX_BYTES) {
        throw new HoldfastError('INVALID_ARGUMENT', `a line of ${record.length} bytes`, {
          hint: `Lines may have ${RECORD_MAX_BYTES} bytes.`,
        });
      }
      const appended = log
        .append({ record, pages: [] })
        .then(({ lsn: at }) => {
          printResult(options.json === true, { lsn: at }, String(at));
        })
        .catch((thrown) => {
          failed ??= thrown;
        })
        .finally(() => waiting.delete(appended));
      waiting.add(appended);
      await log.room;
    }
    await Promise.all(waiting);
    forget();
    process.stdin.destroy();
    if (failed !== null) throw failed;
  });
}

async function read(name: string, options: ReadOptions): Promise<void> {
  const from = lsn(wholeNumber(options.from, '--from'));
  await withLog(name, { ...options, writes: false }, async (log) => {
    if (from > log.owner.committedLsn) {
      throw new HoldfastError(
        'INVALID_ARGUMENT',
        `the log ends before LSN ${log.owner.committedLsn}, there is no ${from}`,
      );
    }
    const replayed = log.replay(from, ({ lsn: at, record }) => {
      const text = Buffer.from(record).toString();
      printResult(options.json === true, { lsn: at, record: text }, text);
    });
    const unread = new Promise<void>((resolve) => process.stdout.once('close', resolve));
    await Promise.race([replayed, unread]);
  });
}
