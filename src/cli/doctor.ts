/** `holdfast doctor`: looks at this machine and the cluster, and says what to do about it. */
import type { Command } from 'commander';
import { HoldfastError } from '../core/errors.js';
import { checkClusterOf } from './doctor-cluster.js';
import { checkMachine } from './doctor-machine.js';
import { EXIT_PROBLEMS } from './errors.js';
import { describeFindings, type Finding, note, problem } from './findings.js';
import { addExamples, printResult } from './output.js';
import { NO_CLUSTER, Session, type SessionOptions, sessionOptions } from './session.js';

export function addDoctorCommand(program: Command): void {
  const command = sessionOptions(program.command('doctor'))
    .description(`find out what is wrong here; exit code ${EXIT_PROBLEMS} when something is`)
    .action((options: SessionOptions) => doctor(options));
  addExamples(command, [
    ['This machine and the cluster of "holdfast up" here', 'holdfast doctor'],
    ['A cluster', 'holdfast doctor --metadata etcd://10.0.0.1:2379 --secret-file secret'],
    ['What is wrong, for scripts', "holdfast doctor --json | jq '.findings[].message'"],
  ]);
}

async function doctor(options: SessionOptions): Promise<void> {
  const findings = [...(await checkMachine()), ...(await checkCluster(options))];
  const problems = findings.filter(({ level }) => level === 'problem').length;
  const count = problems === 1 ? 'One thing is' : `${problems} things are`;
  const said = problems === 0 ? 'Nothing is wrong.' : `${count} wrong: see "!".`;
  const text = `${describeFindings(findings)}\n\n${said}`;
  printResult(options.json === true, { problems, findings }, text);
  if (problems > 0) process.exitCode = EXIT_PROBLEMS;
}

/** What keeps us from asking the cluster is what is wrong with it. */
async function checkCluster(options: SessionOptions): Promise<Finding[]> {
  const { HOLDFAST_METADATA, HOLDFAST_DATA_DIR, HOLDFAST_CONFIG } = process.env;
  const named = [options.metadata, options.dataDir, options.config];
  const isNamed = [...named, HOLDFAST_METADATA, HOLDFAST_DATA_DIR, HOLDFAST_CONFIG].some(Boolean);
  try {
    return await Session.run(options, checkClusterOf);
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    return [clusterFinding(thrown, isNamed)];
  }
}

/**
 * Nobody must have a cluster; but one that the configuration file of the machine names, whatever is
 * wrong with that file or the secret, is as good as one that was named here.
 */
export function clusterFinding({ message, hint }: HoldfastError, isNamed: boolean): Finding {
  const isAny = isNamed || message !== NO_CLUSTER;
  return (isAny ? problem : note)('cluster', message, hint ?? 'See docs/CLI.md.');
}
