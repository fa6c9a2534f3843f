"""Finds a browser for tests/test_browser.py, or installs one where that can be done."""
import os, shutil, subprocess, sys

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome')


def find():
    "Path of a Chromium-like browser: LM4LV_BROWSER, playwright's own, or one of this machine; None if there is none."
    if named := os.environ.get('LM4LV_BROWSER'): return named
    try:
        from playwright.sync_api import sync_playwright
        with sync_playwright() as play: own = play.chromium.executable_path
        if os.path.exists(own): return own
    except ImportError: return None
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def install():
    "Try playwright's own browser, then Debian's package."
    attempts = [[sys.executable, '-m', 'playwright', 'install', 'chromium']]
    if shutil.which('apt-get') and getattr(os, 'geteuid', lambda: 1)() == 0:
        attempts += [['apt-get', 'update', '-qq'], ['apt-get', 'install', '-y', '-qq', '--no-install-recommends', 'chromium']]
    for command in attempts:
        try: done = subprocess.run(command, timeout=900, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        except (OSError, subprocess.TimeoutExpired) as error: print(f'{" ".join(command)}: {error}')
        else:
            if done.returncode: print(f'{" ".join(command)}: {(done.stderr.strip().splitlines() or ["failed"])[0]}')
        if find(): return


if __name__ == '__main__':
    if not find(): install()
    print(f'browser: {find() or "none could be had; its test will be skipped"}')
