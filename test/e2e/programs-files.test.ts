/**
 * Programs that work on many files, on a mounted volume: git, npm, rsync, tar, and ext4 in a file.
 * Each checks its own work with its own means, and again after the volume was mounted anew.
 */
import { cpSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { distRoot } from '../fixtures/processes.js';
import { everyKindOfFile, LONG, needs, Programs, script } from './programs-bed.js';

const GIT_FILES = LONG ? 60_000 : 4_000;
const TREE_FILES = LONG ? 20_000 : 500;
const IMAGE_MIB = LONG ? 2_048 : 192;
const PACKAGES = 60;

const programs = await Programs.start();

/** A bare repository with three commits over many files, made in a moment by fast-import. */
function makeRepository(files: number): string {
  return `git init -q --bare -b main source.git
    awk -v files=${files} 'BEGIN {
      who = "A U Thor <author@example.com> "
      for (c = 1; c <= 3; c++) {
        message = "commit " c
        printf "commit refs/heads/main\\ncommitter %s%d +0000\\n", who, 1600000000 + c
        printf "data %d\\n%s\\n", length(message), message
        for (n = 1; n <= files; n++) {
          if (c > 1 && n % (c * 5) != 0) continue
          text = ""
          for (l = 0; l < n % 60; l++) text = text "line " l " of file " n " in commit " c "\\n"
          printf "M 100644 inline dir%d/sub%d/file%d.txt\\n", n % 40, n % 7, n
          printf "data %d\\n%s\\n", length(text), text
        }
      }
      print "done"
    }' | git -C source.git fast-import --quiet --done`;
}

t.test('git: clone, fsck, switch, gc, fsck', needs('git'), async (t) => {
  const directory = programs.directory('git');
  await script(programs.local, makeRepository(GIT_FILES));
  const source = join(programs.local, 'source.git');
  await script(directory, `git clone -q file://${source} clone`);
  const inClone = (text: string): Promise<string> => script(join(directory, 'clone'), text);
  t.notMatch(await inClone('git fsck --full --strict 2>&1'), /^(?:error|missing|dangling)/m);
  t.equal(await inClone('git status --porcelain'), '');
  await inClone('git -c advice.detachedHead=false checkout -q HEAD~2; git checkout -q main');
  await inClone('git gc --quiet --prune=now');
  await programs.remount();
  t.notMatch(await inClone('git fsck --full --strict 2>&1'), /^(?:error|missing)/m);
  t.equal(await inClone('git status --porcelain'), '');
  t.equal(await inClone('git ls-files | wc -l'), `${GIT_FILES}`);
});

/** Where packages of this project are, to compare with. */
const installed = join(distRoot, '..', 'node_modules');

/** From the registry or npm's cache, this project's packages; else packages made up here. */
async function install(directory: string, comment: (text: string) => void): Promise<boolean> {
  for (const file of ['package.json', 'package-lock.json']) {
    cpSync(join(distRoot, '..', file), join(directory, file));
  }
  const which = LONG ? '' : '--omit=dev';
  const home = `HOME='${process.env.HOME ?? '/root'}'`;
  const quiet = '--ignore-scripts --prefer-offline --no-audit --no-fund --loglevel=error';
  try {
    await script(directory, `${home} npm ci ${which} ${quiet} --fetch-retries=0`);
    return true;
  } catch (error) {
    comment(`made-up packages, since the registry is not reached: ${(error as Error).message}`);
  }
  const packages = join(programs.local, 'packages');
  mkdirSync(packages);
  await script(
    packages,
    `for n in $(seq ${PACKAGES}); do
       mkdir -p package; rm -rf package/*
       echo '{"name":"made-up-'$n'","version":"1.0.0"}' > package/package.json
       for f in $(seq 40); do seq $((n * f % 400)) > package/file-$f.js; done
       tar czf made-up-$n.tgz package
     done; rm -rf package`,
  );
  await script(
    directory,
    `rm -rf node_modules package*.json; echo '{"name":"all","version":"1.0.0"}' > package.json
     npm install --offline ${quiet} --cache='${programs.local}/cache' '${packages}'/*.tgz`,
  );
  return false;
}

t.test('npm: a large install is complete and runs', needs('npm'), async (t) => {
  const directory = programs.directory('npm');
  const isReal = await install(directory, (text) => t.comment(text));
  await programs.remount();
  const names = readdirSync(join(directory, 'node_modules')).filter((name) => !/^\./.test(name));
  t.ok(names.length >= 40, `${names.length} packages`);
  await script(directory, 'npm ls --all --omit=dev > /dev/null');
  if (!isReal) return;
  // The project has more packages, and some at other places; what is here is the same there.
  const pairs = names
    .filter((name) => !name.startsWith('@tapjs'))
    .map((name) => `diff -rq node_modules/${name} '${installed}/${name}'`);
  const differences = `{ ${pairs.join('; ')}; } | grep -v '^Only in ${installed}' || true`;
  t.equal(await script(directory, `set +e; ${differences}`), '', 'the bytes that the project has');
  const text = `node -e "console.log(typeof require('zod').object)"`;
  t.equal(await script(directory, text), 'function');
});

const copies = needs('rsync', 'setfacl', 'setfattr', 'tar');

t.test('rsync -aHAXS: a second pass finds no difference', copies, async (t) => {
  const source = join(programs.local, 'tree');
  mkdirSync(source);
  await script(source, everyKindOfFile(TREE_FILES));
  const target = programs.directory('rsync');
  const sync = `rsync -aHAXS --numeric-ids`;
  await script(programs.local, `${sync} tree/ '${target}/'`);
  const again = `${sync} --dry-run --itemize-changes --delete`;
  t.equal(await script(programs.local, `${again} tree/ '${target}/'`), '', 'by size and time');
  await programs.remount();
  t.equal(await script(programs.local, `${again} --checksum tree/ '${target}/'`), '', 'by bytes');
  t.equal(await script(programs.local, `${again} --checksum '${target}/' tree/`), '', 'and back');
  const blocks = Number(await script(target, 'stat -c %b sparse'));
  t.ok(blocks < 200, `the hole takes no space: ${blocks} blocks`);
});

t.test('tar: there and back is the same archive', copies, async (t) => {
  const target = programs.directory('tar');
  const all = `--numeric-owner --xattrs --xattrs-include='*' --acls`;
  // Attributes apart: each filesystem lists them in an order of its own.
  const look = `tar -c --format=gnu --sort=name --numeric-owner . | sha256sum
    getfattr -R -h -d -m - . | sort | sha256sum`;
  const tree = join(programs.local, 'tree');
  const before = await script(tree, look);
  await script(target, `tar -c ${all} -C '${tree}' . | tar -x ${all}`);
  await programs.remount();
  t.equal(await script(target, look), before);
});

t.test(
  'ext4 in a file of the volume, by a loop device',
  needs('mkfs.ext4', 'losetup'),
  async (t) => {
    const directory = programs.directory('loop');
    const inside = join(programs.local, 'inside');
    mkdirSync(inside);
    t.teardown(() => script('/', `mountpoint -q '${inside}' && umount '${inside}' || true`));
    const work = `mount -o loop '${directory}/image' '${inside}'`;
    await script(directory, `truncate -s ${IMAGE_MIB}M image; mkfs.ext4 -q -F image; ${work}`);
    const tree = join(programs.local, 'tree');
    await script(inside, `cp -a '${tree}/plain' '${tree}/large' .; rm -r plain/3; sync -f .`);
    const sums = 'find . -type f | sort | xargs -d "\\n" sha256sum | sha256sum';
    const before = await script(inside, sums);
    await script('/', `umount '${inside}'`);
    await programs.remount();
    t.match(await script(directory, 'e2fsck -fn image 2>&1'), /image: \d+\/\d+ files/);
    await script(directory, work);
    t.equal(await script(inside, sums), before);
    await script('/', `umount '${inside}'`);
    t.equal(await script(directory, 'losetup -j image'), '', 'no loop device is left');
  },
);
