/** The writer's decisions, event by event: transcripts/writer.txt. */
import t from 'tap';
import type { StatusName } from '../../src/block/wire/messages.js';
import { present } from '../../src/core/assert.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { BATCH_MAX_BYTES } from '../../src/core/limits.js';
import { type Epoch, epoch, type Monotonic, offset, PAGE_BYTES } from '../../src/core/units.js';
import type { OpenSegment } from '../../src/metadata/model.js';
import {
  startWriter,
  stepWriter,
  type WriterEffect,
  type WriterEvent,
  type WriterState,
  writerDeadline,
} from '../../src/replication/writer.js';
import { checkTranscripts, replayTranscript } from './transcript.js';

const hex = (n: number): string => n.toString(16).padStart(32, '0');
const NAMES = ['A', 'B', 'C', 'D'];

/** Segment A, B, ...; `first` is the number of its first node. */
function segment(name: string, first = 0): OpenSegment {
  return {
    segment: hex(0xa00 + NAMES.indexOf(name)) as SegmentId,
    group: 1,
    createEpoch: 3 as Epoch,
    replicas: [0, 1, 2].map((n) => ({
      node: hex(0x100 + first + n) as NodeId,
      incarnation: hex(0x200 + first + n) as Incarnation,
    })),
  };
}

function nameOf(id: SegmentId): string {
  return NAMES[Number.parseInt(id, 16) - 0xa00] ?? '?';
}

class Script {
  state: WriterState | null = null;
  now = 10_000;
  segments = new Map<string, OpenSegment>();
  generations = new Map<string, number>();
  pages = 1;

  run(words: readonly string[]): string[] {
    const [verb = '', ...rest] = words;
    if (verb === 'start') return this.#start(rest);
    const state = this.state as WriterState;
    const at = { now: this.now as Monotonic };
    switch (verb) {
      case 'append':
        return Array.from({ length: Number(rest[0]) }, () => this.#append()).flat();
      case 'pages':
        this.pages = Number(rest[0]);
        return [];
      case 'wait': {
        this.now += Number(rest[0]);
        const due = writerDeadline(state) <= this.now;
        return due ? this.#step({ type: 'tick', now: this.now as Monotonic }) : [];
      }
      case 'spare':
        return this.#step({ type: 'spare', segment: this.#segment(rest), ...at });
      case 'confirmed':
        return this.#step({ type: 'roll-confirmed', ...at });
      case 'state':
        return [this.#show()];
      default:
        return this.#step(this.#answer(verb, rest));
    }
  }

  #segment(words: readonly string[]): OpenSegment {
    const made = segment(words[0] as string, Number(words[1] ?? 0));
    this.segments.set(words[0] as string, made);
    return made;
  }

  #start(words: readonly string[]): string[] {
    const option = (name: string, otherwise: number): number => {
      const at = words.indexOf(name);
      return at < 0 ? otherwise : Number(words[at + 1]);
    };
    this.pages = option('pages', 0);
    const limits = {
      segmentSoftBytes: option('soft', 1000) * PAGE_BYTES,
      segmentHardBytes: option('hard', 100_000) * PAGE_BYTES,
      maxLagBytes: option('lag', 1000) * PAGE_BYTES,
      maxLagMs: 1000,
      maxBatchesInFlight: 16,
      retryMinMs: 50,
      retryMaxMs: 400,
    };
    const facts = {
      name: 'v',
      kind: 'filesystem',
      sizeBytes: 1e9,
      replicas: 3,
      ackQuorum: 2,
    } as const;
    const volume = hex(0xee) as VolumeId;
    const [state, effects] = startWriter(
      { volume, ackQuorum: 2, facts: () => facts, limits },
      { current: this.#segment(['A']), spare: null, previous: null, now: this.now as Monotonic },
    );
    this.state = state;
    return this.#render(effects);
  }

  #append(): string[] {
    const { nextLsn } = this.state as WriterState;
    const pages = this.pages === 0 ? [] : [Buffer.alloc(this.pages * PAGE_BYTES)];
    const entry = { record: Buffer.from(`r${nextLsn}`), pages };
    const bytes = 10 + this.pages * (PAGE_BYTES + 4);
    const queued = { entry, lsn: nextLsn, bytes, done: () => {} };
    return this.#step({ type: 'append', queued, now: this.now as Monotonic });
  }

  /**
   * "ok A 0 2": replica 0 of A has 2 pages. Words after it: ping, old (of an older sending), wrong
   * (of another disk), end N (the batch that is answered ends there).
   */
  #answer(verb: string, words: readonly string[]): WriterEvent {
    const [name = '', index = '', pages = '0'] = words;
    const of = this.segments.get(name) as OpenSegment;
    const replica = Number(index);
    const follower = (this.state as WriterState).current.followers[replica];
    const generation = words.includes('ping') ? null : (follower?.generation ?? 0);
    const wrong = words.includes('wrong');
    const end = words.includes('end') ? Number(words[words.indexOf('end') + 1]) : 0;
    const reply = {
      status: verb.toUpperCase() as StatusName,
      incarnation: wrong
        ? (hex(0x999) as Incarnation)
        : present(of.replicas[replica], 'a replica').incarnation,
      durableLength: offset(Number.parseInt(pages, 10) * PAGE_BYTES || 0),
      maxEpoch: epoch(3),
      body: null,
    };
    return {
      type: 'answer',
      segment: of.segment,
      replica,
      generation: words.includes('old') ? (generation ?? 0) - 1 : generation,
      end: offset(end * PAGE_BYTES),
      reply: verb === 'lost' ? null : reply,
      now: this.now as Monotonic,
    };
  }

  #step(event: WriterEvent): string[] {
    return this.#render(stepWriter(this.state as WriterState, event));
  }

  #render(effects: readonly WriterEffect[]): string[] {
    return effects.map((effect) => {
      switch (effect.type) {
        case 'send': {
          const { offset: at, end, entries, encoded } = effect.batch;
          const { firstLsn } = encoded.header;
          const what = at === 0 ? `header, LSN ${firstLsn}` : `LSN ${firstLsn}+${entries.length}`;
          const pages = `${at / PAGE_BYTES}..${end / PAGE_BYTES}`;
          return `send ${nameOf(effect.segment.segment)} ${effect.replica} ${pages} (${what})`;
        }
        case 'ping':
          return `ping ${nameOf(effect.segment.segment)} ${effect.replica}`;
        case 'committed':
          return `committed ${nameOf(effect.segment)} ..${effect.batch.end / PAGE_BYTES}: ${
            effect.batch.entries.map((entry) => `LSN ${entry.lsn}`).join(', ') || 'header'
          }`;
        case 'rolled': {
          const { segment: sealed, end, endLsn } = effect.sealed;
          const to = nameOf(effect.current.segment);
          return `rolled ${nameOf(sealed)} at ${end / PAGE_BYTES}, LSN ${endLsn}, to ${to}`;
        }
        case 'dropped':
          return `dropped ${effect.follower.replica.node.slice(-1)} ${effect.follower.dropped}`;
        case 'stop':
          return `stop ${effect.reason.code}`;
        default:
          return 'nothing known';
      }
    });
  }

  #show(): string {
    const { current, committedLsn, nextLsn, queue, frozen } = this.state as WriterState;
    const modes = current.followers.map((one) => `${one.mode} ${one.durable / PAGE_BYTES}`);
    const kept = current.batches.length;
    const rest = `kept ${kept}, queued ${queue.length}, LSN ${committedLsn}/${nextLsn}`;
    const still = frozen === null ? '' : `, frozen ${nameOf(frozen.segment)}`;
    return `${nameOf(current.segment.segment)}: ${modes.join(', ')}; ${rest}${still}`;
  }
}

checkTranscripts(
  'writer',
  (scenario) => {
    const script = new Script();
    return replayTranscript(scenario, (words) => script.run(words));
  },
  (scenario, seen) => t.equal(seen, scenario.text, scenario.title),
);

t.test('what no batch takes is refused, and does not wait in the queue for ever', async (t) => {
  const script = new Script();
  script.run(['start']);
  script.run(['pages', String(BATCH_MAX_BYTES / PAGE_BYTES)]);
  t.throws(() => script.run(['append', '1']), /an entry fits into a batch/);
  script.run(['pages', String(BATCH_MAX_BYTES / PAGE_BYTES - 1)]);
  script.run(['append', '1']);
  t.same(script.state?.queue, []);
});
