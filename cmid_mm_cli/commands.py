# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The commands: every tool, found in the checkout or in the installed package."""

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .arguments import user_errors
from .stopping import stop_before_training, stop_signals

COMPLETION = """\
completion of commands and options (needs argcomplete, cmid_mm[completion]):
  eval "$(register-python-argcomplete cmid-mm)"
"""
#: Modules whose use of deprecated code is for their authors to change.
_OTHERS = r'(mm(engine|cv|pretrain|seg|det|rotate)|torch|torchvision|timm)\b'


@dataclass(frozen=True)
class Command:
    """What a tool offers.

    Attributes:
        description: What it does; the first line stands in the list of commands.
        add_arguments: Adds its arguments to a parser.
        main: Does it, given the arguments; imports what it needs.
        epilog: Examples and hints; ``%(prog)s`` stands for the command.
        if_interrupted: How to go on after Ctrl-C.
        reads_images: Whether it reads many files, and must not wait for one for ever.
        saves_on_signals: Whether it takes the signals that ask it to stop, from its
            start on, when there is nothing to save yet.
    """

    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    main: Callable[[argparse.Namespace], None]
    epilog: str = ''
    if_interrupted: str = ''
    reads_images: bool = False
    saves_on_signals: bool = False

    def prepare(self, parser: argparse.ArgumentParser) -> None:
        """Make a parser that of this command."""
        parser.description = self.description
        parser.epilog = self.epilog
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        self.add_arguments(parser)
        parser.set_defaults(main=self.work, if_interrupted=self.if_interrupted)

    def work(self, args: argparse.Namespace) -> None:
        """Do it, and end if a file cannot be read."""
        if not self.reads_images:
            self.main(args)
            return
        from cmid_mm.waiting import reading_ends

        with reading_ends():
            self.main(args)


def run_tool(command: Command) -> None:
    """Run the tool that this process was started with."""
    parser = argparse.ArgumentParser(prog=f'python {sys.argv[0]}')
    command.prepare(parser)
    _run(parser, command)


def main() -> None:
    """Run the command that the first argument names."""
    parser = argparse.ArgumentParser(
        prog='cmid-mm',
        description='Remote-sensing self-supervised pre-training for OpenMMLab.',
        epilog=f'cmid-mm COMMAND -h explains a command.\n\n{COMPLETION}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest='command', required=True, metavar='COMMAND', title='commands'
    )
    known = load_commands()
    for name, command in known.items():
        summary = command.description.strip().splitlines()[0]
        command.prepare(commands.add_parser(name, help=summary))
    _run(parser, known.get(sys.argv[1]) if len(sys.argv) > 1 else None)


def _run(parser: argparse.ArgumentParser, command: Command | None) -> None:
    if command is not None and command.saves_on_signals:
        stop_before_training()  # reading --cfg-options imports mmengine
    try:
        _work(parser)
    finally:
        stop_signals.restore()


def _work(parser: argparse.ArgumentParser) -> None:
    if importlib.util.find_spec('argcomplete'):
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args()
    # None of these is an argument of the command.
    work = vars(args).pop('main')
    if_interrupted = vars(args).pop('if_interrupted')
    vars(args).pop('command', None)
    if not getattr(args, 'verbose', False):
        hide_deprecations()
    user_errors(partial(work, args), if_interrupted)()


def hide_deprecations() -> None:
    """Hide what other packages warn each other of, unless Python was told otherwise.

    Of mmseg also what it says of each model and each run that uses its defaults.

    Warnings that concern code of this package or of the user are shown.
    """
    if sys.warnoptions:
        return
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings('ignore', category=category, module=_OTHERS)
    for text in ('.*deprecat', '.*avg_non_ignore', 'The draw is False'):
        warnings.filterwarnings('ignore', message=f'(?s){text}', module=_OTHERS)


def load_commands() -> dict[str, Command]:
    """All commands by name: the names of the tools, with dashes."""
    return {
        path.stem.replace('_', '-'): _load(path)
        for path in sorted(_tools_folder().glob('*.py'))
    }


def _tools_folder() -> Path:
    # Finds the package without importing it.
    spec = importlib.util.find_spec('cmid_mm')
    if spec is None or not spec.submodule_search_locations:
        sys.exit('error: cmid_mm is not installed beside cmid_mm_cli; pip install it')
    package = Path(spec.submodule_search_locations[0])
    installed = package / '.mim' / 'tools'
    return installed if installed.is_dir() else package.parent / 'tools'


def _load(path: Path) -> Command:
    name = f'cmid_mm_cli.tools.{path.stem}'
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.COMMAND
