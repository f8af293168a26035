/**
 * `npm run bench -- [--only log] [--part commit,depth,large,read] [--json] [--seconds N] [--rounds
 * N] [--directory DIR] [--node-arg ARG]`: measures, and says which marks are met.
 */
import { parseArgs } from 'node:util';
import { logTable, runLog } from './log.js';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    part: { type: 'string' },
    json: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '5' },
    directory: { type: 'string', default: '.' },
    'node-arg': { type: 'string', multiple: true, default: [] },
  },
});

const WORKLOADS = ['log'];
if (values.only !== undefined && !WORKLOADS.includes(values.only)) {
  process.stderr.write(`bench: there is no "${values.only}"; there is: ${WORKLOADS.join(', ')}\n`);
  process.exit(2);
}

const marks = await runLog({
  seconds: Number(values.seconds),
  rounds: Number(values.rounds),
  directory: values.directory,
  nodeArgs: values['node-arg'],
  parts: values.part?.split(',') ?? [],
});
process.stdout.write(`${values.json ? JSON.stringify({ log: marks }) : logTable(marks)}\n`);
