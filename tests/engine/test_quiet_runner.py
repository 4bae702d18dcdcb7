# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import io
import logging

import pytest
from mmengine.logging import MMLogger

from cmid_mm.engine.quiet_runner import StartFilter

DIRECTLY = 'logger.log(level, message)'
BY_PRINT_LOG = """
from mmengine.logging import print_log
print_log(message, logger, level)
"""


@pytest.fixture
def say():
    """Log a message as the code of a package does; returns whether it is shown."""
    logger = MMLogger('test')
    start = StartFilter()
    console = io.StringIO()
    logger.handlers[0].setStream(console)
    logger.handlers[0].addFilter(start)

    def log(package, message, level=logging.INFO, code=DIRECTLY):
        names = {'__name__': package, 'logger': logger, 'level': level}
        exec(code, {**names, 'message': message})
        return message in console.getvalue()

    log.start = start
    return log


@pytest.mark.parametrize('code', [DIRECTLY, BY_PRINT_LOG])
def test_start_of_others_is_for_the_log_file(say, code):
    assert not say('mmengine.runner.runner', 'Config: many lines', code=code)
    assert not say('mmseg.models', 'paramwise_options', code=code)
    assert say('mmengine.runner.runner', 'a warning', logging.WARNING, code)
    assert say('mmengine.runner.runner', 'resumed epoch: 3, iter: 12', code=code)
    assert say('cmid_mm.engine.launch', 'all 318 tensors fit', code=code)
    assert say('my_package', 'mine', code=code)
    say.start.is_over = True
    assert say('mmengine.hooks.logger_hook', 'Epoch(train) [1][1/4]', code=code)


def test_deprecations_are_for_their_authors(say):
    for over in (False, True):
        say.start.is_over = over
        message = f'{over}: FileClient will be deprecated'
        assert not say('mmengine.fileio.file_client', message, logging.WARNING)
        assert say('my_package', f'Mine, {message}', logging.WARNING)
