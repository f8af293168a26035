/**
 * `holdfast completion`: scripts that complete commands and options in a shell, made from the very
 * tree of commands that parses them, so that they never differ from it.
 */
import { Argument, type Command, type Option } from 'commander';
import { addExamples } from './output.js';

/** One command with what may follow it. */
interface Level {
  /** "volume create"; empty for the program itself. */
  readonly path: string;
  readonly commands: readonly Choice[];
  readonly options: readonly Choice[];
  /** Options that want a value, and whether that is a file or directory. */
  readonly values: readonly { readonly flag: string; readonly isPath: boolean }[];
}

interface Choice {
  readonly word: string;
  readonly what: string;
}

const SHELLS = ['bash', 'zsh', 'fish'] as const;
const PATH_VALUE = /<(dir|file|directory)\b/;

/** Needs a program whose commands are all loaded. */
export function addCompletionCommand(program: Command): void {
  const command = program
    .command('completion')
    .description('print a script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>', SHELLS.join(', ')).choices(SHELLS))
    .action((shell: (typeof SHELLS)[number]) => {
      process.stdout.write(SCRIPTS[shell](levelsOf(program)));
    });
  addExamples(command, [
    ['In this shell', 'source <(holdfast completion bash)'],
    ['Always, bash', 'holdfast completion bash > /etc/bash_completion.d/holdfast'],
    ['Always, zsh', 'holdfast completion zsh > /usr/local/share/zsh/site-functions/_holdfast'],
    ['Always, fish', 'holdfast completion fish > ~/.config/fish/completions/holdfast.fish'],
  ]);
}

export function levelsOf(command: Command, path = ''): Level[] {
  const help = command.createHelp();
  const commands = help.visibleCommands(command);
  const options = help.visibleOptions(command);
  const level = {
    path,
    commands: commands.map((one) => ({ word: one.name(), what: one.description() })),
    options: options.map((one) => ({ word: flagOf(one), what: one.description })),
    values: options
      .filter(({ required, optional }) => required || optional)
      .map((one) => ({ flag: flagOf(one), isPath: PATH_VALUE.test(one.flags) })),
  };
  const deeper = commands.filter(
    ({ commands: own, options: some }) => own.length + some.length > 0,
  );
  const below = deeper.flatMap((one) => levelsOf(one, `${path} ${one.name()}`.trim()));
  return [level, ...below];
}

function flagOf({ long, short }: Option): string {
  return long ?? short ?? '';
}

const SCRIPTS: Readonly<Record<(typeof SHELLS)[number], (levels: readonly Level[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/** Follows the words that name commands: the shells' own loops differ, the cases do not. */
function pathCases(levels: readonly Level[]): string {
  const all = levels.flatMap(({ path, commands }) =>
    commands.map(({ word }) => `"${`${path} ${word}`.trim()}"`),
  );
  return all.join('|');
}

function bashScript(levels: readonly Level[]): string {
  const cases = levels.map(({ path, commands, options }) => {
    const words = [...commands, ...options].map(({ word }) => word).join(' ');
    return `    "${path}") words="${words}" ;;`;
  });
  const values = levels.flatMap(({ path, values: all }) =>
    all.map(({ flag }) => `"${`${path} ${flag}`.trim()}"`),
  );
  return `# bash completion for holdfast; made by "holdfast completion bash"
_holdfast() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" path="" words="" i next
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    next="\${path:+$path }\${COMP_WORDS[i]}"
    case "$next" in ${pathCases(levels)}) path="$next" ;; esac
  done
  # A value: nothing to offer but the shell's own file names.
  case "\${path:+$path }$prev" in ${values.join('|')}) return ;; esac
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _holdfast holdfast
`;
}

function zshScript(levels: readonly Level[]): string {
  const item = ({ word, what }: Choice): string => `'${zshText(word)}:${zshText(what)}'`;
  const cases = levels.map(({ path, commands, options }) => {
    const items = [...commands, ...options].map(item).join(' ');
    return `    "${path}") items=(${items}) ;;`;
  });
  return `#compdef holdfast
# zsh completion for holdfast; made by "holdfast completion zsh"
_holdfast() {
  local -a items
  local at="" i next
  for ((i = 2; i < CURRENT; i++)); do
    next="\${at:+$at }\${words[i]}"
    case "$next" in ${pathCases(levels)}) at="$next" ;; esac
  done
  case "$at" in
${cases.join('\n')}
  esac
  [[ "$PREFIX" == -* ]] || _files
  _describe -o holdfast items
}
compdef _holdfast holdfast
`;
}

/** Colons part the word from its description. */
function zshText(text: string): string {
  return text.replaceAll("'", "'\\''").replaceAll(':', '\\:');
}

function fishScript(levels: readonly Level[]): string {
  const quoted = (text: string): string =>
    `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = levels.flatMap(({ path, commands, options, values }) => {
    const when = `complete -c holdfast -n 'test (__holdfast_path) = "${path}"'`;
    const wanted = new Map(values.map(({ flag, isPath }) => [flag, isPath ? ' -r -F' : ' -x']));
    return [
      ...commands.map(({ word, what }) => `${when} -f -a ${word} -d ${quoted(what)}`),
      ...options.map(({ word, what }) => {
        const name = word.startsWith('--') ? `-l ${word.slice(2)}` : `-s ${word.slice(1)}`;
        return `${when} ${name}${wanted.get(word) ?? ''} -d ${quoted(what)}`;
      }),
    ];
  });
  return `# fish completion for holdfast; made by "holdfast completion fish"
function __holdfast_path
  set -l path ""
  for word in (commandline -opc)[2..-1]
    set -l next (string trim "$path $word")
    contains -- "$next" ${pathCases(levels).replaceAll('|', ' ')}; and set path "$next"
  end
  echo "$path"
end
${lines.join('\n')}
`;
}
