// node scripts/render-manifests.mjs [--check]: writes deploy/kubernetes/base from the Helm chart
// with its default values, for those who use kustomize; or says whether it is what is there.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { goTool } from './go-tools.mjs';
import { fail, main, ROOT } from './lib.mjs';

const CHART = join(ROOT, 'deploy', 'helm', 'holdfast');
const RENDERED = join(ROOT, 'deploy', 'kubernetes', 'base', 'holdfast.yaml');
const HEADER =
  '# Made from deploy/helm/holdfast by scripts/render-manifests.mjs: change the chart.\n';
const CANNOT = 3;

function render(helm) {
  const args = ['template', 'holdfast', CHART, '--namespace', 'holdfast'];
  const { status, stdout, stderr } = spawnSync(helm, [...args, '--kube-version', '1.34.0'], {
    encoding: 'utf8',
  });
  if (status !== 0) fail(`helm: ${stderr.trim()}`);
  const text = stdout
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '' && !line.startsWith('# Source: '))
    .join('\n');
  return `${HEADER}${text}\n`;
}

await main(async (args) => {
  const { path, reason } = goTool('helm');
  if (path === undefined) {
    console.log(reason);
    return CANNOT;
  }
  const text = render(path);
  if (!args.includes('--check')) writeFileSync(RENDERED, text);
  else if (readFileSync(RENDERED, 'utf8') !== text) {
    fail('deploy/kubernetes/base is not what the chart makes: node scripts/render-manifests.mjs');
  }
  return 0;
});
