"""The command line: ``mmarcface TOOL ...``, and what all tools share."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from mmarcface import __version__

from .user_errors import describe_user_error

TOOLS = {
    'train': 'train a model',
    'test': 'test a checkpoint',
    'invert': 'recover images from the weights of a trained model',
    'purify': 'find mislabeled samples of a training set',
    'convert': 'convert face data sets and weights from other formats',
    'export': 'write a trained model for other runtimes: ONNX, torch.export, TorchScript',
    'plot': 'train and draw what a loss does to embeddings',
    'benchmark': 'measure speed and memory against other libraries',
}
PROGRAM = 'mmarcface'
STACK = ('mmengine', 'mmpretrain', 'mmcv')
WITH_LITE = 'mmengine, mmpretrain and mmcv-lite'
# Seconds in which torchrun ends the other processes after one has failed.
GRACE = 10


class ArgumentParser(argparse.ArgumentParser):
    """An ``argparse.ArgumentParser`` with the option that :func:`run_command` understands.

    Commands in its description read as they are typed here, see :func:`command_of`.

    Args:
        **options: arguments of ``argparse.ArgumentParser``.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.description = self.description and re.sub(
            r'python tools/(\w+)\.py', lambda tool: ' '.join(command_of(tool[1])), self.description
        )
        self.add_argument(
            '--traceback',
            action='store_true',
            help='show where in the code an error occurs; MMARCFACE_TRACEBACK=1 does so too',
        )


def run_command(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> None:
    """Call a tool, and end with one line on stderr where its user made a mistake.

    A mistake exits with code 2, Ctrl-C with 130. Any other error is raised as it is.

    Args:
        main: function that takes the arguments of the tool.
        argv: arguments, by default those of the command line.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        main(argv)
    except (Exception, KeyboardInterrupt) as error:
        is_first = int(os.environ.get('RANK', 0)) == 0
        if _is_interrupt(error):
            if is_first:
                _print_line('interrupted')
            sys.exit(130)
        message = describe_user_error(error)
        if message is None:
            raise
        if '--traceback' in argv or os.environ.get('MMARCFACE_TRACEBACK', '') not in ('', '0'):
            traceback.print_exc()
        if not is_first:
            # Usually the first process says the same, and this one is ended while it waits.
            time.sleep(GRACE)
        _print_line(f'error: {message}')
        sys.exit(2)


def command_of(tool: str) -> list[str]:
    """The words that start a tool, in the way in which this process was started.

    Args:
        tool: name of the tool, such as ``train``.
    """
    by_name = Path(sys.argv[0]).name.startswith(PROGRAM)
    return [PROGRAM, tool] if by_name else ['python', f'tools/{tool}.py']


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool that the first argument names, with the others.

    Args:
        argv: arguments, by default those of the command line.
    """
    width = max(map(len, TOOLS))
    parser = ArgumentParser(
        prog=PROGRAM,
        description='The ArcFace family for mmpretrain.',
        epilog='tools:\n'
        + '\n'.join(f'  {name:<{width}}  {text}' for name, text in TOOLS.items())
        + f'\n\n{PROGRAM} TOOL --help describes the arguments of a tool.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    parser.add_argument('tool', choices=TOOLS, metavar='TOOL', help='one of the tools below')
    parser.add_argument(
        'arguments', nargs=argparse.REMAINDER, metavar='...', help='arguments of the tool'
    )
    args = parser.parse_args(argv)
    # The name in the usage and in errors of the tool.
    sys.argv = [f'{PROGRAM} {args.tool}', *args.arguments]
    run_command(
        lambda arguments: _load_tool(args.tool).main(arguments),
        [*args.arguments, *['--traceback'] * args.traceback],
    )


def _load_tool(name: str) -> ModuleType:
    try:
        from .plugin import CONFIG_ROOT
    except ModuleNotFoundError as error:
        if error.name not in STACK:
            raise
        raise ImportError(
            f"{error.name} is not installed: pip install 'mmarcface[lite]' brings {WITH_LITE}"
        ) from None
    path = CONFIG_ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'{PROGRAM}.tools.{name}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_interrupt(error: BaseException | None) -> bool:
    # While it formats a config, mmengine takes Ctrl-C for an error in it.
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _print_line(text: str) -> None:
    print(f'{Path(sys.argv[0]).name}: {text}', file=sys.stderr, flush=True)


if __name__ == '__main__':
    main()
