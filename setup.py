"""Package metadata, read from settings.ini."""
import re
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=['='], interpolation=None)
parser.read(here/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
extras = {key.removesuffix('_requirements'): cfg[key].split() for key in cfg if key.endswith('_requirements')}


def absolute(text):
    "README with links that resolve wherever it is shown, as on PyPI: pictures raw, all else as GitHub shows it."
    def link(match):
        kind = 'raw' if match[1] else 'blob'
        return f"{match[1]}[{match[2]}]({cfg['git_url']}/{kind}/{cfg['branch']}/{match[3]})"
    return re.sub(r'(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)', link, text)


setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], license='Apache-2.0', url=cfg['git_url'],
    long_description=absolute((here/'README.md').read_text(encoding='utf-8')), long_description_content_type='text/markdown',
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl'], 'Source': cfg['git_url'], 'Issues': cfg['git_url'] + '/issues',
                  'Changelog': f"{cfg['git_url']}/blob/{cfg['branch']}/CHANGELOG.md", 'Paper': 'https://arxiv.org/abs/2405.15734'},
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Education', 'Intended Audience :: Science/Research',
                 'Natural Language :: English', 'Operating System :: OS Independent', 'Programming Language :: Python :: 3',
                 *[f'Programming Language :: Python :: 3.{minor}' for minor in (10, 11, 12, 13)], 'Framework :: Jupyter',
                 'Topic :: Scientific/Engineering :: Artificial Intelligence', 'Topic :: Scientific/Engineering :: Image Processing',
                 'Typing :: Typed'],
    packages=find_packages(include=['lm4lv', 'lm4lv.*']),
    package_data={'lm4lv': ['weights/**/*', 'weights/*', 'configs/*', 'static/*', 'py.typed']},
    python_requires='>=' + cfg['min_python'], install_requires=cfg['requirements'].split(), extras_require=extras,
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]},
    zip_safe=False)
