"""Checks a built site: every internal address and fragment exists, and nothing is loaded from elsewhere.

python docs/check_links.py _site
"""
import sys
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from gather import COLAB

LOADED = {('script', 'src'), ('img', 'src'), ('link', 'href'), ('source', 'src'), ('iframe', 'src'), ('video', 'src')}
LINKS = LOADED | {('a', 'href')}
NOT_LOADED = ('canonical', 'next', 'prev', 'index', 'search', 'author', 'help', 'top', 'up')


class Page(HTMLParser):
    "The ids of a page, and its addresses as (tag, address)."
    def __init__(self, text):
        super().__init__()
        self.ids, self.links = {'', 'top'}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[k] for k in ('id', 'name') if attrs.get(k)}
        for key, value in attrs.items():
            if value is None or (tag, key) not in LINKS: continue
            self.links.append(('a' if attrs.get('rel') in NOT_LOADED else tag, value))


@lru_cache(maxsize=None)
def parse(path): return Page(path.read_text(encoding='utf-8'))


def fault(site, page, tag, address):
    "What is wrong with an address, or None."
    if address.startswith(COLAB): address = '/' + address.removeprefix(COLAB.removesuffix('/colab')).lstrip('/')
    parts = urlsplit(address)
    if parts.scheme in ('http', 'https') or parts.netloc: return None if tag == 'a' else 'is loaded from elsewhere'
    if parts.scheme: return None # data, mailto, javascript
    base = site if parts.path.startswith('/') else page.parent
    target = (base/unquote(parts.path).lstrip('/')).resolve() if parts.path else page
    if target.is_dir(): target /= 'index.html'
    if not target.exists(): return 'does not exist'
    if not parts.fragment or target.suffix != '.html': return None
    return None if unquote(parts.fragment) in parse(target).ids else 'has no such fragment'


def check(site):
    "Faults of all pages, as lines of text."
    site = Path(site).resolve()
    pages = sorted(p for p in site.rglob('*.html') if '_static' not in p.parts) # there lie the theme's templates
    faults = ((page, address, fault(site, page, tag, address)) for page in pages for tag, address in parse(page).links)
    return [f'{page.relative_to(site)}: {address} {what}' for page, address, what in faults if what]


if __name__ == '__main__':
    faults = check(*sys.argv[1:])
    print(*faults, f'{len(faults)} broken links', sep='\n')
    sys.exit(bool(faults))
