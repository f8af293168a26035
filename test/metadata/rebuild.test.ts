/** Rebuilding volume records from disks: scenarios in a small language, and what comes out. */
import { test } from 'tap';
import type { Incarnation, NodeId, SegmentId } from '../../src/core/ids.js';
import { epoch, lsn, offset } from '../../src/core/units.js';
import { decodeVolume, encodeVolume } from '../../src/metadata/encoding.js';
import { largestEpochs, rebuildVolumes } from '../../src/metadata/rebuild.js';
import type {
  RebuildEntry,
  RebuildHeader,
  RebuildInput,
  RebuildInventory,
  RebuiltVolume,
} from '../../src/metadata/rebuild-types.js';
import { id, segmentId, VOLUME } from './samples.js';

/**
 * `1@2 4 sealed 123 <9:3:20 =30`: segment 1 of epoch 2, 4 pages, sealed, on nodes 1, 2 and 3,
 * continuing segment 9 that ended at 3 pages and LSN 20; its own last LSN was read as 30. `<`
 * alone: the volume's first. Without `<`: no header. A node may differ: `1:3` (3 pages there),
 * `1:t` (tombstone), `1:d` (deleted), `1:s` (suspect from 0); `^5` gives maxEpoch 5.
 */
interface Scenario {
  readonly disks: RebuildInventory[];
  readonly headers: Map<SegmentId, RebuildHeader>;
}

const SETTINGS = { name: 'data', kind: 'filesystem', sizeBytes: 1 << 30, group: 3 } as const;

function scenario(lines: readonly string[], replicas = 3, ackQuorum = 2): Scenario {
  const byNode = new Map<string, RebuildEntry[]>();
  const headers = new Map<SegmentId, RebuildHeader>();
  for (const line of lines) {
    const [what = '', pages = '', state = '', ...rest] = line.split(' ');
    const [name = '', created = ''] = what.split('@');
    const segment = segmentId(name);
    const link = rest.find((one) => one.startsWith('<'));
    const read = rest.find((one) => one.startsWith('='));
    const max = rest.find((one) => one.startsWith('^'))?.slice(1) ?? created;
    if (link !== undefined) {
      const [before = '', end, at, crc] = link.slice(1).split(':');
      const previous = {
        segment: segmentId(before),
        end: offset(Number(end) * 4096),
        endLsn: lsn(Number(at)),
        ...(crc === undefined ? {} : { crc: Number(crc) }),
      };
      headers.set(segment, {
        ...SETTINGS,
        replicas,
        ackQuorum,
        previous: before === '' ? null : previous,
        ...(read === undefined ? {} : { endLsn: lsn(Number(read.slice(1))) }),
      });
    }
    for (const token of rest.filter((one) => /^\d/.test(one))) {
      const [node = '', differs] = token.split(':');
      const own = /^\d+$/.test(differs ?? '') ? Number(differs) : Number(pages);
      const entries = byNode.get(node) ?? [];
      byNode.set(node, entries);
      const gone = differs === 'd' || differs === 't';
      entries.push({
        segment,
        volume: VOLUME,
        createEpoch: epoch(gone ? 0 : Number(created)),
        maxEpoch: epoch(Number(max)),
        length: offset(gone ? 0 : own * 4096),
        state:
          differs === 'd'
            ? 'deleted'
            : differs === 't'
              ? 'tombstone'
              : (state as RebuildEntry['state']),
        crc: gone || own === 0 ? 0 : own,
        suspectFrom: differs === 's' ? offset(0) : null,
      });
    }
  }
  const disks = [...byNode].map(([node, entries]) => ({
    node: id<NodeId>(node),
    incarnation: id<Incarnation>(`d${node}`),
    entries,
  }));
  return { disks, headers };
}

function rebuild(
  found: Scenario,
  acceptLoss = false,
  roots?: RebuildInput['roots'],
): RebuiltVolume {
  const { disks: inventories, headers } = found;
  const input = { inventories, headers, createdAt: '2026-01-01T00:00:00.000Z', acceptLoss };
  const [result, ...more] = rebuildVolumes(roots === undefined ? input : { ...input, roots });
  if (result === undefined || more.length > 0) throw new Error('one volume was expected');
  return result;
}

/** `sealed 1:4:20 | open 2 | delete 3 | epoch 5`, or the refusal's code and first reason. */
function told(result: RebuiltVolume): string {
  if (result.type === 'refused') return `${result.code}: ${result.reasons[0]}`;
  if (result.type === 'purged') return `purged, ${result.leftAlone.length} left`;
  const { record } = result;
  if (record.owner !== null) throw new Error('a rebuilt volume is nobody’s');
  decodeVolume(encodeVolume(record)); // whatever comes out can be stored
  const short = (segment: string): string => segment.replace(/^0+/, '');
  const sealed = record.sealed.map(
    (one) => `${short(one.segment)}:${one.end / 4096}:${one.endLsn}`,
  );
  const open = record.open.map((one) => short(one.segment));
  const dead = record.pendingDelete.map((one) => short(one.segment));
  const parts = [
    ['sealed', ...sealed],
    ['open', ...open],
    ['delete', ...dead],
  ];
  return `${parts.map((part) => part.join(' ')).join(' | ')} | epoch ${record.epoch}`;
}

const CASES: readonly (readonly [string, readonly string[], string | RegExp])[] = [
  ['a purged volume', ['1@1 4 sealed 1:d 2:d 3:d', '2@1 1 open 1:d 2:d 3:d'], 'purged, 0 left'],
  [
    'a purge that was under way leaves no volume',
    ['1@1 4 sealed 1:d 2:d 3 <', '2@1 1 open 1 2:d 3 <1:4:10', '3@1 0 open 1 2 3'],
    'purged, 3 left',
  ],
  ['one open segment', ['1@1 4 open 1 2 3 <'], 'sealed | open 1 | delete | epoch 2'],
  [
    'a fence above the epoch is known',
    ['1@1 4 open 1 2 3 < ^7'],
    'sealed | open 1 | delete | epoch 8',
  ],
  [
    'a chain, a registered spare and a planned one',
    [
      '1@1 4 sealed 1 2 3 <',
      '2@1 5 sealed 1 2 3 <1:4:10',
      '3@1 2 open 1 2:3 3 <2:5:20',
      '4@1 0 open 1 2 3',
      '5@1 0 open 1 2 3',
    ],
    'sealed 1:4:10 2:5:20 | open 3 | delete 4 5 | epoch 2',
  ],
  [
    'the one before the last is not sealed yet: takeover ends both',
    ['1@1 6 open 1 2 3:5 <', '2@1 2 open 1 2 3 <1:4:10'],
    'sealed | open 1 2 | delete | epoch 2',
  ],
  [
    'one replica of each is missing',
    ['1@1 4 sealed 1 <', '2@1 5 open 1 3 <1:4:10'],
    'sealed 1:4:10 | open 2 | delete | epoch 2',
  ],
  [
    'a short copy of a sealed segment',
    ['1@1 4 sealed 1 2:3 3 <', '2@1 5 open 1 2 3 <1:4:10'],
    /INCONSISTENT: copies of segment .* sealed at different ends/,
  ],
  [
    'a spare that a takeover abandoned',
    [
      '1@1 6 sealed 1 2 3 < ^2 =14',
      '2@1 1 open 1 2:t 3:t <1:4:10 ^2',
      '3@2 0 open 1 2 3',
      '4@2 0 open 1 2 3',
    ],
    'sealed 1:6:14 | open | delete 2 3 4 | epoch 3',
  ],
  [
    'the last one was sealed, and those after it have no data yet',
    ['1@1 4 open 1 2 3 <', '2@1 7 open 1 3 <1:4:10 =20', '2@1 5 sealed 2', '3@2 0 open 1 2 3'],
    'sealed 1:4:10 2:5:20 | open | delete 3 | epoch 3',
  ],
  [
    'the same, and its last LSN was not read',
    ['1@1 4 sealed 1 2 3 <', '2@1 0 open 1 2 3'],
    /INCONSISTENT: the last LSN of segment 0+1 must be read from a sealed copy/,
  ],
  [
    'the last one was sealed, and no disk knows the one after it',
    ['1@1 4 sealed 1 2 3 < =10'],
    /DATA_LOST: segment 0+1 was sealed, so another one was in use after it/,
  ],
  [
    'the last one was sealed, and too few know the one after it',
    ['1@1 4 sealed 1 2 3 < =10', '2@1 0 open 1'],
    /DATA_LOST: 1 of 2 needed replicas of segment 0+2 were found, all empty/,
  ],
  [
    'every copy reaches beyond the end, where the chain was not read',
    ['1@1 6 open 1 2 3 <', '2@1 5 open 1 2 3 <1:4:10', '3@1 2 open 1 2 3 <2:5:20'],
    /INCONSISTENT: no copy of segment 0+1 is readable up to 16384/,
  ],
  [
    'the same, and it was read',
    ['1@1 6 open 1 2 3 <', '2@1 5 open 1 2 3 <1:4:10:77', '3@1 2 open 1 2 3 <2:5:20'],
    'sealed 1:4:10 | open 2 3 | delete | epoch 2',
  ],
  [
    'an abandoned spare beside a newer epoch',
    [
      '1@1 6 sealed 1 2 3 < ^2',
      '2@1 1 open 1 2:t 3:t <1:4:10 ^2',
      '3@2 3 open 1 2 3 <1:6:14',
      '4@2 0 open 1 2 3',
    ],
    /^sealed 1:6:14 \| open 3 \| delete 4 \| epoch 3$/,
  ],
  [
    'a tombstone counts as a reply',
    ['1@1 4 open 1 2:t < ^3'],
    'sealed | open 1 | delete | epoch 4',
  ],
  [
    'a missing middle',
    ['1@1 4 sealed 1 2 3 <', '3@1 5 open 1 2 3 <2:9:30'],
    /INCONSISTENT: segment 0+2 is missing: 0+3 continues it at LSN 30/,
  ],
  ['the first is missing', ['2@1 5 open 1 2 3 <1:4:10'], /INCONSISTENT: segment 0+1 is missing/],
  [
    'the cleaner deleted the first, one copy is left over',
    ['1@1 4 sealed 1:d 2:d 3', '2@1 5 open 1 2 3 <1:4:10'],
    'sealed | open 2 | delete 1 | epoch 2',
  ],
  [
    'the cleaner deleted a middle, and the LSNs before it were read',
    ['1@1 4 sealed 1 2 3 < =10', '2@1 5 sealed 1:d 2:d', '3@1 5 open 1 2 3 <2:9:30'],
    'sealed 1:4:10 | open 3 | delete | epoch 2',
  ],
  [
    'the same, and they were not read',
    ['1@1 4 sealed 1 2 3 <', '2@1 5 sealed 1:d 2:d', '3@1 5 open 1 2 3 <2:9:30'],
    /INCONSISTENT: where the LSNs of segment 0+1 end must be read/,
  ],
  [
    'an empty sealed segment has no header',
    ['1@1 4 sealed 1 2 3 < =10', '2@2 0 sealed 1 2 3', '3@3 5 open 1 2 3 <2:0:10'],
    'sealed 1:4:10 | open 3 | delete 2 | epoch 4',
  ],
  [
    'the same, and what ends there is gone',
    ['1@1 4 sealed 1 2 3 < =9', '2@2 0 sealed 1 2 3', '3@3 5 open 1 2 3 <2:0:10'],
    /INCONSISTENT: no segment was found that ends at LSN 10, where segment 0+3 continues one/,
  ],
  [
    'the same, and it was not sealed yet but ends there',
    ['1@1 4 open 1 2:3 3 < =10', '2@2 0 sealed 1 2 3', '3@3 5 open 1 2 3 <2:0:10'],
    'sealed 1:4:10 | open 3 | delete 2 | epoch 4',
  ],
  [
    'segments without records, one behind the other, begin at one LSN',
    ['1@1 4 sealed 1 2 3 <', '2@1 1 open 1 2 3 <1:4:10', '9@1 5 open 1 2 3 <2:1:10'],
    'sealed 1:4:10 | open 2 9 | delete | epoch 2',
  ],
  [
    'and behind one without data',
    [
      '9@1 1 sealed 1 2 3 < =0',
      '8@1 4 sealed 1 2 3 <9:1:0 =10',
      '7@1 0 sealed 1 2 3',
      '2@1 5 open 1 2 3 <7:0:10',
    ],
    'sealed 9:1:0 8:4:10 | open 2 | delete 7 | epoch 2',
  ],
  [
    'sealed at 0, with what a quorum never had on copies that are not cut yet',
    [
      '1@1 4 sealed 1 2 3 < =10',
      '3@1 2 open 1 2 <1:4:10',
      '3@1 0 sealed 3',
      '2@1 5 open 1 2 3 <3:0:10',
    ],
    'sealed 1:4:10 | open 2 | delete 3 | epoch 2',
  ],
  [
    'a fence of an unknown segment that was sealed at 0 knows no epoch',
    [
      '1@1 4 sealed 1 2 3 < =10',
      '3@1 0 sealed 2 3',
      '3@0 0 sealed 1 ^2',
      '2@1 5 open 1 2 3 <3:0:10',
    ],
    'sealed 1:4:10 | open 2 | delete 3 | epoch 3',
  ],
  [
    'data that nothing explains is not passed over',
    [
      '1@1 4 sealed 1 2 3 < =10',
      '3@1 0 sealed 1 2 3',
      '4@1 2 open 1 2 3 <3:0:10',
      '2@1 5 open 1 <',
    ],
    /DATA_LOST: segment 0+2 has data and is not part of the log found/,
  ],
  [
    'nor is data behind a deleted segment that the log does not lead to',
    ['1@1 4 open 1 2 3 <', '5@1 2 sealed 1:d 2:d 3:d', '2@0 5 open 1 2 3 <5:2:3'],
    /DATA_LOST: segment 0+2 has data and is not part of the log found/,
  ],
  [
    'too few replicas of the last',
    ['1@1 4 sealed 1 2 3 <', '2@1 5 open 1 <1:4:10'],
    /DATA_LOST: 1 of 2 needed replicas of segment 0+2 .*at 20480 bytes\) would be lost/,
  ],
  ['a suspect replica proves nothing', ['1@1 5 open 1 2:s <'], /DATA_LOST: 1 of 2 needed replicas/],
  [
    'too few replicas of an empty segment that may have been in use',
    ['1@1 4 open 1 2 3 <', '2@1 0 open 1'],
    /DATA_LOST: 1 of 2 needed replicas of segment 0+2 were found, all empty/,
  ],
  [
    'an empty one of a former epoch is nothing',
    ['1@2 4 open 1 2 3 <', '2@1 0 open 1'],
    'sealed | open 1 | delete 2 | epoch 3',
  ],
  [
    'sealed elsewhere than the next one says, in the middle',
    ['1@1 4 sealed 1 2 3 <', '2@1 5 sealed 1 2 3 <1:3:10', '3@1 5 open 1 2 3 <2:5:20'],
    /INCONSISTENT: segment 0+1 was sealed at 16384, but the one that continues it says 12288/,
  ],
  [
    'data without a readable header',
    ['1@1 4 open 1 2 3 <', '2@1 5 open 1'],
    /INCONSISTENT: segment 0+2 has data, but its header/,
  ],
  ['nothing but empty segments', ['1@1 0 open 1 2 3'], /INCONSISTENT: no segment header/],
  ['a chain that bites its tail', ['1@1 4 open 1 2 3 <1:4:10'], /INCONSISTENT: .*continues itself/],
];

test('rebuild: scenarios', async (t) => {
  for (const [name, lines, expected] of CASES) {
    const result = told(rebuild(scenario(lines)));
    if (typeof expected === 'string') t.equal(result, expected, name);
    else t.match(result, expected, name);
  }
});

test('rebuild: a copy that replaces another one on the same node', async (t) => {
  const lines = ['1@1 4 sealed 1 2 3 <', '2@1 5 open 1 2 3 <1:4:10'];
  const beside = (...more: string[]): Scenario => {
    const { disks, headers } = scenario(lines);
    const node = disks[0]?.node as NodeId;
    const of = scenario(more).disks.map((disk, n) => {
      return { ...disk, node, incarnation: id<Incarnation>(`e${n}`) };
    });
    return { disks: [...disks, ...of], headers };
  };
  const expected = told(rebuild(scenario(lines)));
  t.equal(told(rebuild(beside('1@1 4 sealed 9'))), expected, 'both are whole');
  t.equal(told(rebuild(beside('1@1 3 open 9'))), expected, 'it is being made');
  t.match(told(rebuild(beside('1@1 3 sealed 9'))), /are sealed at different ends/);
  t.match(told(rebuild(beside('2@1 5 open 9'))), /one node holds segment 0+2 twice/);
});

test('rebuild: two of two must answer where both acknowledge', async (t) => {
  const both = scenario(['1@1 4 open 1 2 <'], 2, 2);
  t.equal(told(rebuild(both)), 'sealed | open 1 | delete | epoch 2');
  const one = scenario(['1@1 4 open 1 <'], 2, 2);
  t.match(told(rebuild(one)), /DATA_LOST/, 'one alone cannot take appends');
  const three = scenario(['1@1 4 open 1 <'], 3, 3);
  t.match(told(rebuild(three)), /DATA_LOST/);
});

test('rebuild: accepting loss keeps what there is and says what is gone', async (t) => {
  const lines = ['1@1 4 sealed 1 2 3 <', '2@1 5 open 1 <1:4:10 =25'];
  const result = rebuild(scenario(lines), true);
  t.equal(told(result), 'sealed 1:4:10 2:5:25 | open | delete | epoch 2');
  t.ok(result.type === 'rebuilt' && /1 of 2 needed/.test(result.losses[0] ?? ''));
  const unread = ['1@1 4 sealed 1 2 3 <', '2@1 5 open 1 <1:4:10'];
  t.match(told(rebuild(scenario(unread), true)), /INCONSISTENT: the last LSN of segment 0+2 must/);
  const hole = ['1@1 4 sealed 1 2 3 <', '3@1 5 open 1 2 3 <2:9:30'];
  t.match(told(rebuild(scenario(hole), true)), /is missing/, 'no log leads across a hole');
  const beside = ['1@1 4 open 1 2 3 <', '2@1 0 open 1'];
  t.equal(told(rebuild(scenario(beside), true)), 'sealed | open 1 | delete | epoch 2');
});

/** What was found: a checkpoint of this LSN in segment 3, of images and data in these segments. */
function checkpoint(at: number, images: string, others = ''): RebuildInput['roots'] {
  const list = (text: string): SegmentId[] => text.split(' ').filter(Boolean).map(segmentId);
  const root = { segment: segmentId('3'), offset: offset(4096), lsn: lsn(at) };
  return new Map([[VOLUME, { root, images: list(images), others: list(others), unreadable: [] }]]);
}

const NO_CHECKPOINT: RebuildInput['roots'] = new Map([
  [VOLUME, { root: null, images: [], others: [], unreadable: [] }],
]);
const BEGINNING_DELETED = [
  '1@1 4 sealed 1:d 2:d 3:d',
  '2@1 6 sealed 1 2 3 <1:4:10',
  '3@1 5 open 1 2 3 <2:6:30',
];
const HOLE = ['1@1 4 sealed 1 2 3 < =10', '3@1 5 sealed 1 2 3 <2:9:30', '4@1 5 open 1 2 3 <3:5:40'];
type RootCase = readonly [
  string,
  readonly string[],
  RebuildInput['roots'],
  boolean,
  string | RegExp,
];
const WITH_ROOTS: readonly RootCase[] = [
  [
    'the beginning was deleted, a checkpoint does without it',
    BEGINNING_DELETED,
    checkpoint(12, '2 3', '1'),
    false,
    'sealed 2:6:30 | open 3 | delete | epoch 2',
  ],
  [
    'the beginning was deleted, and no checkpoint is there',
    BEGINNING_DELETED,
    NO_CHECKPOINT,
    true,
    /INCONSISTENT: no checkpoint was found in the log, and its beginning is missing: .* LSN 10/,
  ],
  [
    'a checkpoint that needs what is not there any more',
    BEGINNING_DELETED,
    checkpoint(5, '2 3'),
    true,
    /INCONSISTENT: the newest checkpoint found needs the log from LSN 5 on: .*begins at LSN 10/,
  ],
  [
    'images in a segment that was deleted',
    BEGINNING_DELETED,
    checkpoint(12, '1 2 3'),
    true,
    /INCONSISTENT: .*stands in segment 0+1 too, which is missing/,
  ],
  [
    'data in a segment of which no disk knows',
    BEGINNING_DELETED,
    checkpoint(12, '2 3', '7'),
    false,
    /DATA_LOST: segment 0+7 is missing: what files have in it would be lost/,
  ],
  [
    'the same, accepted',
    BEGINNING_DELETED,
    checkpoint(12, '2 3', '7'),
    true,
    'sealed 2:6:30 | open 3 | delete | epoch 2',
  ],
  [
    'a hole before what is replayed',
    HOLE,
    checkpoint(35, '3'),
    false,
    /DATA_LOST: segment 0+2 is missing: 0+3 continues it at LSN 30/,
  ],
  [
    'a hole before what is replayed, accepted',
    HOLE,
    checkpoint(35, '3'),
    true,
    'sealed 1:4:10 3:5:40 | open 4 | delete | epoch 2',
  ],
  ['a hole in what is replayed', HOLE, checkpoint(25, '3'), true, /INCONSISTENT: .*from LSN 25 on/],
  ['no log leads across a hole', HOLE, NO_CHECKPOINT, true, /INCONSISTENT: .*begins at LSN 30/],
];

test('rebuild: the newest checkpoint, and what it needs', async (t) => {
  for (const [name, lines, roots, acceptLoss, expected] of WITH_ROOTS) {
    const result = rebuild(scenario(lines), acceptLoss, roots);
    if (typeof expected === 'string') t.equal(told(result), expected, name);
    else t.match(told(result), expected, name);
    if (result.type === 'rebuilt') t.same(result.record.root, roots?.get(VOLUME)?.root);
  }
});

test('rebuild: each volume by itself, and the largest epochs', async (t) => {
  const { disks, headers } = scenario(['1@1 4 open 1 2 3 < ^6']);
  const other = id<typeof VOLUME>('f02');
  const more = disks.map((disk) => ({
    ...disk,
    entries: [
      ...disk.entries,
      ...disk.entries.map((entry) => ({ ...entry, volume: other, segment: segmentId('9') })),
    ],
  }));
  headers.set(segmentId('9'), { ...(headers.get(segmentId('1')) as RebuildHeader), name: 'b' });
  const results = rebuildVolumes({ inventories: more, headers, createdAt: '2026-01-01T00:00:00Z' });
  t.same(results.map(told), [
    'sealed | open 1 | delete | epoch 7',
    'sealed | open 9 | delete | epoch 7',
  ]);
  t.same(
    [...largestEpochs(more)],
    [
      [VOLUME, 6],
      [other, 6],
    ],
  );
});
