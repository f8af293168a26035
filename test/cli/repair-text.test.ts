/** What `holdfast status` says of repair. */
import t from 'tap';
import { copiesAway, repairText } from '../../src/cli/repair-text.js';
import type { NodeAnswer } from '../../src/cli/survey.js';
import { epoch, offset } from '../../src/core/units.js';
import type { RepairReport } from '../../src/metadata/repair-report.js';
import { volumeRecord } from '../fixtures/volume-record.js';
import { at, fresh, segmentId, THREE, VOLUME } from '../metadata/samples.js';

const QUIET: RepairReport = {
  ...{ degraded: 0, endangered: 0, unreadable: 0, copies: 0, bytes: 0, leaving: 0 },
  ...{ running: 0, runningBytes: 0, doneCopies: 0, doneBytes: 0, failedCopies: 0 },
  ...{ bytesPerSecond: 0, bytesPerSecondMax: 1 << 20, balancing: false, node: '', at: '' },
};

function text(changes: Partial<RepairReport> = {}, away = 0): string {
  return repairText({ ...QUIET, ...changes }, away, { repairGraceMs: 600_000 });
}

t.test('while the grace runs there is something to wait for', async (t) => {
  t.equal(text(), 'repair: nothing to do');
  t.equal(text({}, 7), 'repair: 7 copies are away, and waited for (repair-grace is 10 minutes)');
  t.match(text({ copies: 7 }, 7), /^repair: 7 copies to make \(0 B\), [^;]*$/);
});

t.test('nothing is balanced during a drain, or while copies are missing', async (t) => {
  t.equal(text({ balancing: true }), 'repair: balancing disks');
  t.equal(text({ balancing: true, leaving: 2 }), 'repair: 2 copies on nodes that are drained');
  t.notMatch(text({ balancing: true, copies: 2 }), 'balancing');
  t.notMatch(text({ balancing: true }, 2), 'balancing');
});

t.test('a copy is away while no node that lives has its disk', async (t) => {
  const { end, crc, endLsn } = at('1', 4, 9);
  const listed = { ...fresh('1'), segment: segmentId('1'), replicas: THREE };
  const sealed = [{ ...listed, createEpoch: epoch(1), end: offset(end), endLsn, crc }];
  const volumes = [volumeRecord(VOLUME, { epoch: epoch(1), sealed })];
  const nodes = THREE.map(({ node, incarnation }, n): NodeAnswer => {
    const disks = [{ incarnation, capacityBytes: 1 }];
    const record = { schema: 1, node, address: node, zone: 'z', disks, version: '1' } as const;
    const silent = { disks: null, problem: null, problemCode: null, clock: null };
    return { record, live: n > 0, ...silent };
  });
  t.equal(copiesAway(volumes, nodes), 1);
  t.equal(copiesAway(volumes, nodes.slice(1)), 1, 'its node was removed just now');
});
