"""Calls a function in a new process that has the heavy libraries imported, and nothing else: forked from a server that has only imported them."""
import importlib, multiprocessing, os, socket, sys, tempfile
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

HEAVY = ['torch', 'transformers.models.llama.modeling_llama', 'transformers.models.vit_mae.modeling_vit_mae', 'transformers.modeling_gguf_pytorch_utils',
         'accelerate', 'torchmetrics.image', 'matplotlib.pyplot', 'IPython', 'PIL.Image']
new = multiprocessing.get_context('forkserver' if hasattr(os, 'fork') else 'spawn')


def _inside(said, folder, env, argv, module, function, options):
    "What the new process does: as a command would, with its words in a file."
    with open(said, 'wb', buffering=0) as out, open(f'{said}.err', 'wb', buffering=0) as err:
        os.dup2(out.fileno(), 1); os.dup2(err.fileno(), 2)
    multiprocessing.set_start_method(None, force=True) # as in a process of its own
    os.chdir(folder); os.environ.clear(); os.environ.update(env)
    sys.argv = argv
    getattr(importlib.import_module(module), function)(**options)


def call(module, function, argv=(), folder='.', env=None, timeout=600, **options):
    "What became of it: exit code and what it said, as from `subprocess.run`."
    new.set_forkserver_preload(HEAVY)
    with tempfile.TemporaryDirectory() as place:
        said = Path(place)/'said'
        arguments = str(said), str(Path(folder).resolve()), dict(os.environ if env is None else env), [function, *map(str, argv)], module, function, options
        process = new.Process(target=_inside, args=arguments)
        process.start(); process.join(timeout)
        if process.is_alive():
            process.kill(); process.join()
            raise TimeoutExpired([function, *argv, *options.values()], timeout)
        return CompletedProcess(argv, process.exitcode, *(path.read_text(encoding='utf-8') for path in (said, Path(f'{said}.err'))))


def torchrun(processes: int = 2) -> list:
    "What stands between python and a script's name so that it runs in several processes, on a port that is free."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    return ['-m', 'torch.distributed.run', '--nproc_per_node', str(processes), '--master_port', str(port)]
