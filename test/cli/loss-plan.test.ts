/** What `volume recover` says is lost, in words. */
import t from 'tap';
import { endLosses, type LossPlan } from '../../src/cli/loss-plan.js';
import type { OpenState } from '../../src/cli/loss-survey.js';
import { epoch, lsn, offset } from '../../src/core/units.js';
import { volumeRecord } from '../fixtures/volume-record.js';
import { fresh, VOLUME } from '../metadata/samples.js';

function open(n: string, missing: OpenState['missing']): OpenState {
  const length = offset(8192);
  const counts = { answered: 3 - missing.length, needed: 2, isEnough: missing.length < 2 };
  return {
    segment: { ...fresh(n), createEpoch: epoch(1) },
    ...counts,
    length,
    holders: [],
    missing,
  };
}

t.test('of two open segments, one may lack nothing', async (t) => {
  const silent = ['a', 'b'].map((node) => ({ node: node.repeat(32), why: 'it is down' }));
  const none = { lost: [], files: null, dropped: [], stays: new Map(), newest: null };
  const plan: LossPlan = {
    ...{ ...none, hopeless: null, isEndUnknown: true, nextLsn: lsn(7) },
    open: [open('1', silent), open('2', [])],
  };
  t.match(endLosses(volumeRecord(VOLUME, {}), plan), [
    /1 of 3 replicas answer, 2 have to; 8 KiB are there \(aaaaaaaa: it is down; bbbbbbbb: it is/,
    /3 of 3 replicas answer, 2 have to; 8 KiB are there$/,
    /^records from LSN 7 on/,
  ]);
});
