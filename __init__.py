"""Lets a script in the folder above a clone import the library: without this file, Python takes the clone for an empty package."""
from pathlib import Path

__path__ = [str(Path(__file__).resolve().parent/'lm4lv')]
__file__ = str(Path(__path__[0])/'__init__.py')
exec(compile(Path(__file__).read_text(encoding='utf-8'), __file__, 'exec'))
