/** How long an owner has been silent, and that nothing is kept of volumes that are gone. */
import t from 'tap';
import { epoch } from '../../src/core/units.js';
import { Silences } from '../../src/replication/silences.js';
import { volumeRecord } from '../fixtures/volume-record.js';
import { VOLUME } from '../metadata/samples.js';

t.test('it counts from the first time that nothing was heard', async (t) => {
  const silences = new Silences();
  const record = volumeRecord(VOLUME, { epoch: epoch(1) });
  silences.note(record, () => 0, 1_000);
  silences.note(record, () => 0, 5_000);
  t.equal(silences.lengthMs(VOLUME), 4_000);
  silences.keepOnly(new Set([VOLUME]));
  t.equal(silences.lengthMs(VOLUME), 4_000);
  silences.keepOnly(new Set());
  t.equal(silences.lengthMs(VOLUME), 0);
  silences.note(record, () => 0, 9_000);
  t.equal(silences.lengthMs(VOLUME), 0, 'and begins anew');
});
